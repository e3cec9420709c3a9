/* The adapters that are attached: discovery, asking them in rounds, and the account of what came of it.
 *
 * Answers for: noticing runtimes at start and when libraries were loaded later; whether a runtime is due
 * (its own back-off, and a share of time that reclaim may take while there is room); one request for each
 * round and thread; measuring; rows among the hooks. Refuses to decide when a round is due (reclaim.h).
 * Threads: as said for each function.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/hooks.h"
#include "observe/stats.h"
#include "settings/config.h"

struct dl_phdr_info;

namespace memlimit::runtimes {

/** For dl_iterate_phdr(). */
using ImageVisit = int (*)(dl_phdr_info*, size_t, void*);

/** Once, from the constructor, when every library of the program's start is relocated: discovers what is
 *  there. `loader_calls` counts calls of dlopen; it must live for ever. `visit` is called on the service thread for
 *  each image some time after a dlopen, with the loader's list locked. */
void configure(const Config& config, const std::atomic<uint32_t>* loader_calls,
               ImageVisit visit) noexcept;

/** Whether serve() has anything to do: libraries may have been loaded, or an adapter wants help. A few
 *  atomic loads; any thread, inside malloc too. */
bool service_wanted() noexcept;

/** Looks for runtimes among libraries loaded since the last time, and helps adapters that asked. On the
 *  service thread; may wait for a dlopen that is under way, if that is about to load a runtime. */
void serve() noexcept;

/** Whether a runtime with a heap of its own is attached. */
bool any() noexcept;

/** A round wants bytes: takes it to the runtimes that are due, and asks the calling thread's. False when
 *  none is due; else the round ends when the first of them has arrived at its safe point, unless
 *  `ends_round` is false. In malloc's slow path. */
bool begin_round(const hooks::Pass& pass, int64_t began_ns, bool ends_round) noexcept;

/** On the slow path of any thread: asks its runtime for the round that is open, if there is one. */
void ask_if_wanted() noexcept;

/** Rows for the statistics; returns how many. */
size_t rows(HookRow* out, size_t cap) noexcept;
hooks::Sums sums() noexcept;
int count() noexcept;

/** Name of an attached adapter, for events; "?" when there is none. */
const char* name_of(int64_t index) noexcept;

void lock_for_fork() noexcept;
void unlock_after_fork() noexcept;
void reset_after_fork() noexcept;

}  // namespace memlimit::runtimes
