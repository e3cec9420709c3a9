// A table of rows, each read from a line of JSON, that are replaced one after the other, so that they are old when
// they are dropped. V8 is told that it may have a heap larger than the group, and lets garbage pile up before it looks
// at old objects again.
const rows = 260_000;
const line = (i) => JSON.stringify({ id: i, name: `row ${i}`, tags: [i, i + 1, i + 2], text: String(i).repeat(12) });
const table = Array.from({ length: rows }, (_, i) => JSON.parse(line(i)));
let sum = 0;
for (let i = 0; i < 5 * rows; ++i) {
  sum += table[i % rows].id;
  table[i % rows] = JSON.parse(line(i));
}
console.log("done", sum);
