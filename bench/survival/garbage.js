// Rows that are parsed and thrown away: V8 is told that it may have a heap larger than the group.
let kept = [];
let sum = 0;
for (let request = 0; request < 800; ++request) {
  const rows = [];
  for (let i = 0; i < 2000; ++i) rows.push({ id: i, name: `row ${request} ${i}`, tags: [i, i + 1, i + 2] });
  sum += JSON.parse(JSON.stringify(rows)).length;
  kept.push(rows);
  if (kept.length > 60) kept = kept.slice(30);
}
console.log("done", sum);
