// Threads that make garbage and then wait for events: workers that end by themselves, by process.exit() and by being
// terminated while they wait; the process ends while one of them still waits.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function garbage(count) {
  let rows = [];
  for (let i = 0; i < count; ++i) rows.push({ i, text: 'x' + i, list: [i, i + 1] });
  return rows.length;
}

const waits = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const ends = {
  itself: () => waits(5),
  exit: () => waits(5).then(() => process.exit(7)),
  terminate: () => waits(1e6),
};

if (!isMainThread) {
  garbage(1000);
  parentPort.postMessage('waits');
  ends[workerData]();
} else {
  const start = (how, event) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: how });
    worker.on('error', reject).on(event, resolve);
    if (event === 'exit' && how === 'terminate') worker.on('message', () => worker.terminate());
  });
  Promise.all(Object.keys(ends).map((how) => start(how, 'exit'))).then(async (statuses) => {
    garbage(5000);
    await Promise.all([start('terminate', 'message'), waits(20)]);
    console.log('done', statuses.join(' '));
    process.exit(5);
  });
}
