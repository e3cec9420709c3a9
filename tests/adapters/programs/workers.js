// Worker threads with heaps of their own; one is terminated in the middle of its work, one ends the process.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function churn(count) {
  let kept = [];
  let sum = 0;
  for (let i = 0; i < count; ++i) {
    kept.push({ i, text: 'x' + i, list: [i, i + 1] });
    if (kept.length > 3000) kept = kept.slice(1500);
    sum += kept[kept.length - 1].i;
  }
  return sum;
}

if (!isMainThread) {
  if (workerData < 0) for (;;) churn(1000);
  parentPort.postMessage(churn(workerData));
} else {
  const endless = new Worker(__filename, { workerData: -1 });
  const another = new Worker(__filename, { workerData: -1 });
  const jobs = [3000, 5000].map((workerData) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData });
    worker.on('message', resolve);
    worker.on('error', reject);
  }));
  churn(6000);
  Promise.all(jobs).then(async (sums) => {
    await endless.terminate();
    console.log('done', sums.join(' '));
    process.exit(4); // while `another` is at work
  });
}
