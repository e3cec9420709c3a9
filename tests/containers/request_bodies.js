// Requests whose bodies are kept for a while: three of these share one group. V8 counts the memory of buffers, but
// lets some 64 MB of them pile up before it looks at old objects.
// usage: request_bodies.js REQUESTS KEPT BYTES
const [requests, kept, bytes] = process.argv.slice(2).map(Number);
const recent = new Array(kept);
let sum = 0;
for (let i = 0; i < requests; ++i) {
  const body = Buffer.alloc(bytes, i);
  sum += body[i % bytes];
  recent[i % kept] = { id: i, body };
}
console.log('done');
