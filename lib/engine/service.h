/* The one background thread, named "memlimit", with all signals blocked: runs ASYNC hooks, collects
 * exited threads' pages, serves the statistics socket, writes the log.
 *
 * Answers for: existing only when needed (it may be started from inside any allocation), waking up without
 * cause every few seconds only (the program may have closed its descriptors), being forgotten in the child
 * of a fork and started again there when needed, and descriptors that stay out of the program's way.
 * Threads: start_if_wanted() and wake() may be called by any thread, inside malloc too.
 */
#pragma once

#include <cstdint>

#include "settings/config.h"

namespace memlimit::service {

/** Once, at start. The Config must live for ever. `xdg_runtime_dir` is copied. */
void configure(const Config& config, const char* xdg_runtime_dir) noexcept;

/** Starts the thread unless it runs, is being started or cannot be had (then it is tried again after a
 *  while). Never blocks on it. errno is kept. */
void start() noexcept;

/** Whether the thread exists (or is about to). */
bool running() noexcept;

/** Makes it look for work; cheap when it is already on its way. */
void wake() noexcept;

/** At exit: hangs up on clients and removes the socket's file. Bounded wait. */
void stop() noexcept;

/** Number of service threads started and the reason the last start failed (0: none). */
int last_error() noexcept;

void lock_for_fork() noexcept;
void unlock_after_fork() noexcept;
void reset_after_fork() noexcept;

}  // namespace memlimit::service
