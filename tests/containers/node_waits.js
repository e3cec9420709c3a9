// Garbage that has reached the old space, of rows or of buffers, in the main thread or in workers too, which then wait; it ends
// when something comes on standard input. usage: node node_waits.js rows|buffers COUNT WORKERS
const { Worker, isMainThread, workerData, parentPort } = require('worker_threads');
const [kind, count, workers] = isMainThread ? process.argv.slice(2) : workerData;
const make = {
  rows: (i) => ({ i, text: 'row ' + i, list: [i, i + 1, i + 2] }),
  buffers: (i) => Buffer.alloc(1000, i),
};
let kept = [];
for (let i = 0; i < count; ++i) kept.push(make[kind](i));
for (let i = 0, young = []; i < 2_000_000; ++i) if (young.push({ i }) === 100_000) young = [];
kept = null;
if (!isMainThread) {
  parentPort.once('message', () => {});
  parentPort.postMessage('waits');
} else {
  const all = Array.from({ length: workers }, () => new Worker(__filename, { workerData: [kind, count, 0] }));
  Promise.all(all.map((worker) => new Promise((waits) => worker.once('message', waits)))).then(() => {
    console.log('waits');
    process.stdin.once('data', () => {
      for (const worker of all) worker.postMessage('end');
      process.stdin.pause();
    });
  });
  process.on('exit', () => console.log('ends'));
}
