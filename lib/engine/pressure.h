/* What every slow path reads: the limit in force, the level, and the clock that pacing goes by.
 *
 * Refuses to decide and to act: the limit is set through limit.h, the level by decision.h.
 * Threads: all, any context. A few atomic loads each; one cache line, written rarely.
 */
#pragma once

#include <cstdint>

#include "pacing/pacer.h"

namespace memlimit::pressure {

/** The limit in force, 0 = off. */
int64_t limit_bytes() noexcept;

/** Level at the last look. */
Level level() noexcept;

/** Whether anything is paced: there is a limit, or MEMLIMIT_GROWTH asks for rounds without one. */
bool active() noexcept;

/** What pacing takes for time: bytes that the program took, by malloc, by mmap, or by touching what was mapped already. */
int64_t clock_bytes() noexcept;

/** The program has mapped so many bytes itself. Returns how many it had ever mapped before. */
int64_t add_mapped(int64_t bytes) noexcept;

/** The footprint has grown by so much that neither malloc nor mmap told of. */
void add_touched(int64_t bytes) noexcept;

/** At start. */
void set_growth(bool asked) noexcept;

/** For decision.cc, under its lock: each returns what it was. */
int64_t exchange_limit(int64_t bytes) noexcept;
Level exchange_level(Level level) noexcept;

}  // namespace memlimit::pressure
