/* What is asked of the program's own event loop: the bytes that rounds want of the POLL hooks, and the descriptor that
 * wakes the loop.
 *
 * Refuses to run hooks (poll_pass.h). Threads: all; no lock.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"

namespace memlimit::poller {

/** A round wants so much, in place of what it wanted before; somebody asks for so much by hand. Wakes the loop. */
void want(int64_t bytes) noexcept;
void want_explicit(int64_t bytes) noexcept;

/** Whether something is wanted, or the descriptor is readable. One atomic load. */
bool is_due() noexcept;

/** What was wanted, once; makes the descriptor silent. */
struct Wanted {
  int64_t by_round;
  int64_t by_hand;
};
Wanted take() noexcept;

/** memlimit_poll_fd(): made at the first call; negative: -errno. */
int descriptor() noexcept;

/** The parent's eventfd is shared with the child, whose loop it would wake: it has none. */
extern const fork::Part kForkPart;

}  // namespace memlimit::poller
