/* A round's life: what it asks of the hooks and runtimes, and what is recorded when it is over.
 *
 * Answers for: handing a round to the right threads (INLINE hooks here, ASYNC hooks on the service thread, POLL hooks in
 * the program's loop, runtimes at their safe points), and ending it once. Refuses to decide (decision.h).
 * Threads: all; begin() inside malloc, with nothing locked.
 */
#pragma once

#include <cstdint>

#include "engine/decision.h"
#include "engine/hooks.h"
#include "pacing/pacer.h"

namespace memlimit::round {

/** What a round asks of hooks. */
hooks::Pass make_pass(int64_t round, int64_t wanted_bytes, Level level,
                      const PacerInput& input) noexcept;

/** Somebody asked by memlimit_reclaim(): neither back-off nor a fall in usage counts. */
void ask_for_everything(hooks::Pass* pass) noexcept;

/** How many of the pass's bytes are still worth freeing once so many are. */
int64_t still_wanted(const hooks::Pass& pass, int64_t freed_bytes) noexcept;

/** hooks::run(), counted as reclaim's CPU time. */
hooks::Outcome run_hooks(int context, const hooks::Pass& pass) noexcept;

/** Tells of hooks that run past their deadline, each call once; the round of an ASYNC hook that blocks is over for the
 *  hooks and runtimes that others run. Never waits for a hook. */
void tell_overruns(int64_t now_ns) noexcept;

/** Begins what was decided, on the program's thread. */
void begin(const decision::Begun& begun, const PacerInput& input) noexcept;

/** Ends a round: tells the pacer, the limiter and whoever listens what came of it. `answered`: as in
 *  decision::round_ended(). */
void end(int64_t round, int64_t wanted_bytes, int64_t freed_bytes, bool answered,
         int64_t began_ns) noexcept;

/** At a runtime's safe point: how many bytes of the round are still worth freeing, after reading the footprint. */
int64_t wanted_at_safe_point(const hooks::Pass& pass, int64_t freed_bytes) noexcept;

/** The runtime has reclaimed, freeing this much by the calling thread: gives the allocator's idle pages
 *  back, as nothing would reach the kernel otherwise. Returns the footprint after that. */
int64_t purge_after_runtime(int64_t freed_bytes) noexcept;

/** A runtime has done its part of the round. `ends`: it was the last one who could; `counts`: what it
 *  freed can be told already. */
void safe_point_ran(const hooks::Pass& pass, int64_t began_ns, int64_t freed_bytes, int64_t cpu_ns,
                    bool ends, bool counts) noexcept;

}  // namespace memlimit::round
