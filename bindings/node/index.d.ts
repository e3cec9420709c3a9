/** Whose socket: a path (or an abstract name that begins with NUL), or a process of this user's; this process by default. */
export interface Target {
  socket?: string;
  pid?: number;
}

/** What a round of this process left open. */
export interface Round {
  round: number;
  level: 'low' | 'moderate' | 'critical' | 'over';
  /** What the round wanted and did not get. */
  wantedBytes: number;
  /** What it got. */
  freedBytes: number;
}

/** Errors have a `code`: ENOTLOADED (no libmemlimit.so there), ENOSOCKET (none yet), ESRCH, EREFUSED (the process says no,
 * and why), EPROTO, ETIMEDOUT, or that of the system. */

/** Whether libmemlimit.so is in this process. */
export function loaded(): boolean;

/** One file of the socket as text; `status` when none is named. */
export function read(file?: string, target?: Target): Promise<string>;

/** Every figure of the file `stat`. */
export function stats(target?: Target): Promise<Record<string, number>>;

/** The limit in bytes; 0 when it is off. */
export function getLimit(target?: Target): Promise<number>;

/** Bytes, 0 for off, or what MEMLIMIT takes: '512MiB', '80%', 'auto', 'off'. Resolves to the new limit. */
export function setLimit(limit: number | string, target?: Target): Promise<number>;

/** Tells of each round on the event loop. Returns what ends it. */
export function onPressure(listener: (round: Round) => void): () => void;
