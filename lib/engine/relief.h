/* The second thread, named "memlimit-relief": it serves in the service thread's place while that one is away, in a hook
 * that blocks.
 *
 * Answers for: there being one thread at a time that serves, and it being one that can. Refuses to know what is served.
 * The thread is made when the service thread is away for the first time, and ends with it. While hooks are short it wakes
 * up every 50 ms; while there are none it sleeps.
 * Threads: as each function says. No lock, and all but the thread's creation allocate nothing.
 */
#pragma once

#include <cstdint>

namespace memlimit::service::relief {

/** On the service thread: it goes away. From 50 to 100 ms later on `serve` is called on the other thread, which returns
 *  soon after on_duty() has become false. Where no thread can be had, nobody serves meanwhile. */
void leave(void (*serve)() noexcept) noexcept;

/** On the service thread: it is back. Returns when nobody else serves any more: `wake` is to end what serve() sleeps in. */
void come_back(void (*wake)() noexcept) noexcept;

/** In serve(): whether it is to go on. An atomic load. */
bool on_duty() noexcept;

/** Whether the other thread serves. Any thread; an atomic load. */
bool serves() noexcept;

/** On the service thread, which is not away: ends the thread, and waits until the kernel does not count it (50 ms at
 *  most). */
void dismiss() noexcept;

/** How many threads there are of it: 0 or 1. Any thread; an atomic load. */
int count() noexcept;

/** In the child of fork, which has no such thread. */
void reset_after_fork() noexcept;

}  // namespace memlimit::service::relief
