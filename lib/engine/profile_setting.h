/* Turns the heap profile on and off: the tables first, then the heap's sampling.
 *
 * Threads: apply() one at a time (the start, then the service thread); interval_bytes() any.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "settings/config.h"

namespace memlimit::profile_setting {

/** Samples every so many bytes on average from now on; 0: no more, and what is alive of the samples stays. On failure false,
 *  with the reason in `error` (no newline, no "memlimit:"), and nothing has changed. */
bool apply(int64_t interval_bytes, char* error, size_t cap) noexcept;

/** The same for MEMLIMIT_PROFILE; what is in the way is said in the log. */
void apply_at_start(const Config& config) noexcept;

/** The interval in force; 0: off. */
int64_t interval_bytes() noexcept;

}  // namespace memlimit::profile_setting
