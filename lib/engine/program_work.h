/* The program begins to work while the service thread sleeps for long: then it is to look at what it left alone.
 *
 * Threads: wake_from() the service thread; note() any, inside malloc too.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"

namespace memlimit::program_work {

/** From then on (CLOCK_MONOTONIC) work is a reason to wake the service thread, once; INT64_MAX: it is awake often enough. */
void wake_from(int64_t ns) noexcept;

/** The program takes memory; once for each reading of its footprint. An atomic load, and a clock while the service
 *  thread sleeps for long. Returns whether it was woken. */
bool note() noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::program_work
