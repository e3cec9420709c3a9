/* memlimit_poll(): a pass of the POLL hooks, in the program's own loop.
 *
 * Threads: any, one at a time; a second caller does nothing. Outside malloc.
 */
#pragma once

#include "engine/fork.h"

namespace memlimit::poll_pass {

/** Runs what is wanted of the POLL hooks; returns how many were called. */
int run() noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::poll_pass
