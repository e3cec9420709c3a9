// Waves of rows that reach the old space before they are dropped: three of these share one group.
// usage: waves.js WAVES ROWS
const [waves, rows] = process.argv.slice(2).map(Number);
let checksum = 0;
for (let wave = 0; wave < waves; ++wave) {
  const table = [];
  for (let i = 0; i < rows; ++i) table.push({ wave, i, text: `row ${wave} ${i}`, list: [i, i + 1, i + 2] });
  checksum += table[rows - 1].i;
}
console.log('done');
