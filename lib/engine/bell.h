/* What the service thread sleeps on: an eventfd in poll(), or a futex where poll() is refused.
 *
 * Answers for: no ring being lost, a ring that is cheap while the last one has not been heard, and descriptors of the
 * program's being left alone when it closes ours and opens its own under the same number.
 * Threads: make() one at a time; ring() by any, in a signal handler too; wait() by the service thread. No lock, allocates
 * nothing. errno: make() and ring() may change it.
 */
#pragma once

#include <cstddef>

#include <poll.h>

namespace memlimit::service::bell {

/** Makes the eventfd unless there is one. 0, or an errno. */
int make() noexcept;

/** Ends the wait that is under way, or the next one. */
void ring() noexcept;

/** Waits for a ring or for one of fds[1] to fds[count - 1], whose revents it fills; fds[0] is the bell's. Not at all when
 *  it has rung since the last wait. Milliseconds; less when there is no eventfd. How many have something, 0 or less: it
 *  cannot be told. */
int wait(pollfd* fds, size_t count, int longest_ms) noexcept;

/** Whether anybody had rung when the last wait ended, heard or, since the eventfd was lost, not. Service thread. */
bool rang() noexcept;

/** In the child of fork: the eventfd is the parent's. */
void reset_after_fork() noexcept;

}  // namespace memlimit::service::bell
