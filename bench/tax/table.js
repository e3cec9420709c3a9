// A table of rows that are replaced when they are old. usage: node --expose-gc table.js COUNT ROUNDS
const fs = require('fs');

const [count, rounds] = process.argv.slice(2).map(Number);
const row = (i) => ({ id: i, name: `row ${i}`, tags: [i, i + 1, i + 2], text: [...String(i).repeat(4)] });

function ownBytes() {
  const [, resident, shared] = fs.readFileSync('/proc/self/statm', 'ascii').split(' ');
  return (resident - shared) * 4096;
}

const table = Array.from({ length: count }, (_, i) => row(i));
global.gc();
console.log(ownBytes());
let sum = 0;
for (let i = 0; i < count * rounds; ++i) {
  const place = (i * 7919) % count;
  sum += table[place].id;
  table[place] = row(i);
}
console.log('done', sum);
