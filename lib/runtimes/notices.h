/* Telling the program that memory is short, by means that it may know already: a signal of its own
 * choosing (MEMLIMIT_SIGNAL), or systemd's memory-pressure protocol (MEMLIMIT_PRESSURE).
 *
 * Answers for: two ASYNC hooks that give the notice and then watch for a bounded time what comes of it;
 * never a signal whose default action would hit; a pipe that only this process's readers have. Refuses
 * to believe that a notice freed anything: only the fall in usage counts.
 * Threads: configure() once, from the constructor; the hooks on the service thread.
 */
#pragma once

#include "engine/fork.h"
#include "settings/config.h"

namespace memlimit::runtimes {

/** Registers what the settings ask for. May set MEMORY_PRESSURE_WATCH in the environment, unless somebody
 *  else has: so only before main. */
void configure_notices(const Config& config) noexcept;

/** The pipe of the child of fork is its own, at the same descriptors. */
extern const fork::Part kNoticesForkPart;

}  // namespace memlimit::runtimes
