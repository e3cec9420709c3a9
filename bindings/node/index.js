'use strict';
/* memlimit for Node.js: reads and sets over the statistics socket, and tells of pressure. No native code, no dependency.
 *
 * Hooks of memlimit.h cannot be had from here: Node.js 18 to 24 call no C function without an addon that is compiled for
 * each of them. What comes closest without one is onPressure(): the program is told of each round on its event loop, and
 * drops what it can spare. In contrast to a hook it is told after the round, is not ranked, and what it frees is not
 * booked under its name. V8's own heap is collected in any case.
 *
 * Whoever listens on a socket may be another process than it was a moment ago: a path that others may write to is not for
 * setLimit().
 */

const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const ANSWER_MAX_BYTES = 1024 * 1024;
const LINE_MAX_BYTES = 64 * 1024;
const TIMEOUT_MS = 5000;
const RETRY_MS = 1000; // the socket comes with the service thread, and goes while the process forks
const ERROR_PREFIX = 'memlimit: ';
const LEVELS = ['low', 'moderate', 'critical', 'over'];
const LISTENING = 0x10000; // __SO_ACCEPTCON
// Where the library puts sockets by itself; '@' begins an abstract name.
const DEFAULT_NAME = /^@memlimit\/\d+(-\d+)?$|\/memlimit(-\d+)?\/\d+(-\d+)?\.sock$/;

/** An error with a code, as those of node:fs have one. */
function failure(code, message) {
  return Object.assign(new Error(message), { code });
}

/** Whether libmemlimit.so is in this process. */
function loaded() {
  return isUnder('self');
}

function isUnder(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/maps`, 'latin1').includes('/libmemlimit.so');
  } catch {
    return false;
  }
}

/** What the library makes of MEMLIMIT_SOCKET in this process; undefined when it chooses by itself. */
function ownPlace() {
  const setting = process.env.MEMLIMIT_SOCKET || '';
  if (!setting.includes('/')) return undefined;
  const values = { '%p': String(process.pid), '%h': os.hostname(), '%%': '%' };
  const whole = setting.endsWith('/') ? `${setting}%p.sock` : setting;
  return path.resolve(whole.replace(/%[ph%]/g, (sequence) => values[sequence]));
}

/** The name on which the process listens, from the kernel's tables; undefined when there is none. */
function socketOf(pid) {
  const inodes = new Set();
  for (const entry of fs.readdirSync(`/proc/${pid}/fd`)) {
    try {
      const found = /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${pid}/fd/${entry}`));
      if (found) inodes.add(found[1]);
    } catch {
      // closed in between
    }
  }
  const own = pid === process.pid ? ownPlace() : undefined;
  const ours = (name) => name === own || DEFAULT_NAME.test(name) || path.basename(name).includes('memlimit');
  for (const line of fs.readFileSync(`/proc/${pid}/net/unix`, 'utf8').split('\n')) {
    const found = /^[0-9a-f]+: \w+ \w+ (\w+) \w+ \w+ +(\d+) (.+)$/.exec(line);
    if (found && parseInt(found[1], 16) & LISTENING && inodes.has(found[2]) && ours(found[3])) return found[3];
  }
  return undefined;
}

/** What to connect to, for { socket } or { pid } or this process. */
function address(options = {}) {
  if (options.socket !== undefined) return options.socket;
  const pid = options.pid === undefined ? process.pid : options.pid;
  if (!Number.isSafeInteger(pid) || pid <= 0) throw new TypeError(`${pid} is not a process id`);
  let name;
  try {
    name = socketOf(pid);
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') throw failure('ESRCH', `no process ${pid}`);
    throw error;
  }
  if (name !== undefined) return name.startsWith('@') ? `\0${name.slice(1)}` : name;
  if (!isUnder(pid)) throw failure('ENOTLOADED', `process ${pid} does not run under memlimit`);
  throw failure('ENOSOCKET', `process ${pid} has no statistics socket (yet): a small one has none, see MEMLIMIT_SOCKET`);
}

/** The answer to one line, as text. */
function ask(request, options) {
  return new Promise((resolve, reject) => {
    const parts = [];
    let length = 0;
    const socket = net.connect({ path: address(options) });
    // Of the whole answer, not of each part: a byte now and then is no answer.
    const timer = setTimeout(() => socket.destroy(failure('ETIMEDOUT', 'no answer in time')), TIMEOUT_MS);
    socket.on('data', (part) => {
      parts.push(part);
      length += part.length;
      if (length > ANSWER_MAX_BYTES) socket.destroy(failure('EPROTO', 'the answer has no end: this is no statistics socket'));
    });
    socket.on('error', (error) => {
      clearTimeout(timer);
      // A server that refuses may hang up before it is asked; what it said comes first.
      if (error.code === 'EPIPE' && length > 0) return;
      reject(error);
    });
    socket.on('close', () => {
      clearTimeout(timer);
      const text = Buffer.concat(parts).toString('utf8');
      if (text.startsWith(ERROR_PREFIX)) reject(failure('EREFUSED', text.slice(ERROR_PREFIX.length).trim()));
      else resolve(text);
    });
    socket.write(`${request}\n`);
  });
}

/** One file of the socket as text: status, stat, hooks, heap, limit, metrics, config, ... */
async function read(file = 'status', options = {}) {
  if (!/^[a-z]+$/.test(file) || file === 'events') throw new TypeError(`${file} is not a file that can be read at once`);
  return ask(file, options);
}

/** Every figure of the file `stat`, as numbers. */
async function stats(options = {}) {
  const figures = {};
  for (const line of (await ask('stat', options)).split('\n')) {
    const found = /^(\w+) (-?\d+)$/.exec(line);
    if (found) figures[found[1]] = Number(found[2]);
  }
  if (Object.keys(figures).length === 0) throw failure('EPROTO', 'no figures: the process is about to end');
  return figures;
}

function limitOf(text) {
  const found = /^(\d+|off)\n$/.exec(text);
  if (!found) throw failure('EPROTO', `no limit: ${text.slice(0, 80)}`);
  return found[1] === 'off' ? 0 : Number(found[1]);
}

/** The limit in force, in bytes; 0 when it is off. */
async function getLimit(options = {}) {
  return limitOf(await ask('limit', options));
}

/** Changes the limit: bytes, 0 for off, or what MEMLIMIT takes ('512MiB', '80%', 'auto', 'off'). Resolves to the new one. */
async function setLimit(limit, options = {}) {
  let text = limit;
  if (typeof limit === 'number') {
    if (!Number.isSafeInteger(limit) || limit < 0) throw new RangeError(`${limit} is not a number of bytes`);
    text = limit === 0 ? 'off' : `${limit}B`;
  }
  if (typeof text !== 'string' || !/^[\x21-\x7e]{1,64}$/.test(text)) throw new TypeError(`${String(limit)} is not a limit`);
  return limitOf(await ask(`limit=${text}`, options));
}

/** The words `key=value` of an event's line. */
function words(line) {
  const found = {};
  for (const word of line.split(' ')) {
    const at = word.indexOf('=');
    if (at > 0) found[word.slice(0, at)] = word.slice(at + 1);
  }
  return found;
}

/** The stream of events of this process, as long as somebody listens. It keeps no process alive, and comes back by itself
 * when the socket is not there yet, or goes while the process forks. */
class Pressure {
  constructor(listener) {
    this.listener = listener;
    this.level = 'low';
    this.stopped = false;
    this.connect();
  }

  connect() {
    if (this.stopped) return;
    let place;
    try {
      place = address();
    } catch {
      this.again();
      return;
    }
    let pending = '';
    this.socket = net.connect({ path: place });
    this.socket.unref();
    this.socket.setEncoding('latin1');
    this.socket.on('data', (part) => {
      const lines = (pending + part).split('\n');
      pending = lines.pop();
      if (pending.length > LINE_MAX_BYTES) this.socket.destroy();
      for (const line of lines) this.take(line);
    });
    this.socket.on('error', () => {}); // 'close' follows
    this.socket.on('close', () => this.again());
    this.socket.write('events\n');
  }

  again() {
    if (!this.stopped) this.timer = setTimeout(() => this.connect(), RETRY_MS).unref();
  }

  take(line) {
    const event = words(line);
    if (line.startsWith('state ') && LEVELS.includes(event.level)) this.level = event.level;
    if (event.event === 'level' && LEVELS.includes(event.to)) this.level = event.to;
    if (event.event !== 'round' || this.stopped) return;
    const [round, wanted, freed] = [Number(event.round), Number(event.wanted), Number(event.freed)];
    if (!Number.isFinite(wanted) || !Number.isFinite(freed)) return;
    this.listener({ round, level: this.level, wantedBytes: Math.max(wanted - freed, 0), freedBytes: freed });
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    if (this.socket) this.socket.destroy();
  }
}

/** Calls listener({ round, level, wantedBytes, freedBytes }) on the event loop after each round of this process:
 * `wantedBytes` is what the round did not get. Returns a function that ends it. Does nothing without the library. */
function onPressure(listener) {
  if (typeof listener !== 'function') throw new TypeError('onPressure needs a function');
  if (!loaded()) return () => {};
  const pressure = new Pressure(listener);
  return () => pressure.stop();
}

module.exports = { loaded, read, stats, getLimit, setLimit, onPressure };
