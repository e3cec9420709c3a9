// What Node programs do with memory: objects, maps and JSON in V8's heap, buffers in malloc's.
'use strict';

let state = 12345;
function random(below) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state % below;
}

function work(orders) {
  const made = [];
  const byCustomer = new Map();
  for (let number = 0; number < orders; number++) {
    const lines = [];
    for (let i = random(6) + 1; i > 0; i--) {
      lines.push({item: `item-${random(900)}`, pieces: random(9), price: random(99999) / 100});
    }
    const order = {number, customer: `customer-${random(5000)}`, lines};
    made.push(order);
    if (!byCustomer.has(order.customer)) byCustomer.set(order.customer, []);
    byCustomer.get(order.customer).push(order);
  }
  const text = JSON.stringify(made);
  const again = JSON.parse(text);
  let bytes = 0;
  const buffers = [];
  for (let i = 0; i < orders; i++) {
    const buffer = Buffer.alloc(random(8000) + 5000, i & 255);
    buffers.push(buffer);
    bytes += buffer.length;
    if (buffers.length > 500) buffers.shift();
  }
  const hash = require('crypto').createHash('sha256').update(text).digest('hex');
  return [text.length, again.length, byCustomer.size, bytes, hash];
}

for (let round = 0; round < Number(process.argv[2]); round++) {
  console.log(work(20000).join(' '));
}
