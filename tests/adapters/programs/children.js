// Forked node processes that talk and allocate; then the event loop is left idle, and the process ends by itself.
const { fork } = require('child_process');

function churn(count) {
  let rows = [];
  for (let i = 0; i < count; ++i) {
    rows.push({ i, buffer: Buffer.alloc(2000, i & 255) });
    if (rows.length > 500) rows = [];
  }
  return rows.length;
}

if (process.send) {
  process.on('message', (count) => { process.send(churn(count)); process.disconnect(); });
} else {
  const children = [810, 530].map((count) => new Promise((resolve) => {
    const child = fork(__filename);
    let answer;
    child.on('message', (value) => { answer = value; });
    // Its end may be known before its message has been read; that the channel is closed is known after.
    const ends = ['exit', 'disconnect'].map((event) => new Promise((ended) => child.on(event, ended)));
    Promise.all(ends).then(([code]) => resolve(`${answer}/${code}`));
    child.send(count);
  }));
  churn(900);
  process.on('exit', () => churn(600));
  Promise.all(children).then((answers) => setTimeout(() => console.log('done', answers.join(' ')), 20));
}
