/* The adapters in rounds: asking those that are attached, and the account of what came of it.
 *
 * Answers for: whether a runtime is due (its own back-off, and a share of time that reclaim may take while there is room);
 * one request for each round and thread; measuring; rows among the hooks. Refuses to decide when a round is due
 * (decision.h), and to find runtimes (discovery.h).
 * Threads: as said for each function.
 */
#pragma once

#include "engine/fork.h"
#include "engine/service.h"
#include "runtimes/discovery.h"
#include "settings/config.h"

namespace memlimit::runtimes {

/** Once, from the constructor, when every library of the program's start is relocated: discovers what is
 *  there, and takes part in rounds. */
void configure(const Config& config, const LoaderCalls& calls) noexcept;

/** Looks for runtimes among libraries loaded since the last time, and helps adapters that asked. It may wait for a
 *  dlopen that is under way, if that is about to load a runtime. */
extern const service::Task kTask;

/** Has runtimes reclaim that take requests from any thread: it goes away. */
extern const service::Task kReclaimTask;

extern const fork::Part kForkPart;

}  // namespace memlimit::runtimes
