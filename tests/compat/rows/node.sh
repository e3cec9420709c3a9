# Buffers (malloc), the V8 heap, worker threads, child processes, zlib in the thread pool.
cat >main.js <<'CODE'
const crypto = require('crypto'), zlib = require('zlib'), fs = require('fs');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process');
if (!isMainThread) {
  const map = new Map();
  for (let i = 0; i < 50000; i++) map.set('k' + i, { i, w: workerData });
  let sum = 0;
  for (const v of map.values()) sum += v.i * v.w;
  parentPort.postMessage(sum);
} else {
  (async () => {
    const buffers = [];
    for (let i = 0; i < 2000; i++) buffers.push(Buffer.alloc(10000, i & 255));
    console.log(crypto.createHash('md5').update(Buffer.concat(buffers)).digest('hex'));
    const text = fs.readdirSync('/usr/include').filter(f => f.endsWith('.h')).sort()
      .map(f => fs.readFileSync('/usr/include/' + f, 'latin1')).join('');
    const counts = {};
    for (const w of text.match(/[A-Za-z_]\w+/g)) counts['$' + w] = (counts['$' + w] || 0) + 1;
    console.log(Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 30).join(' '));
    const packed = await Promise.all([1, 2, 3, 4].map(l => new Promise(r =>
      zlib.deflate(text, { level: l }, (e, b) => r(zlib.inflateSync(b).toString() === text)))));
    console.log(packed.join(' '));
    const sums = await Promise.all([1, 2, 3].map(n => new Promise((resolve, reject) => {
      const w = new Worker(__filename, { workerData: n });
      w.on('message', resolve); w.on('error', reject);
    })));
    console.log(sums.join(' '));
    console.log(execFileSync('sh', ['-c', 'echo from a child']).toString().trim());
    for (let r = 0; r < 10; r++) { let g = []; for (let i = 0; i < 100000; i++) g.push({ i, s: 'x' + i }); }
    process.exitCode = 5;
  })();
}
CODE
node main.js && status=0 || status=$?
echo "status $status"
