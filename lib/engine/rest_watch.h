/* Idle pages of a program that has come to rest above its limit.
 *
 * Purges are asked for when a thread looks, and a thread that frees its last block, or whose runtime frees on a thread of
 * its own after a round, may look while none is due: too soon after one that gave nothing, or usage seems to breathe, or
 * the limit is let go. Nobody looks again then. So the service thread does, each second, until next to nothing was
 * allocated meanwhile; then it purges, and looks no more until somebody else does.
 * Answers for: these looks. Refuses to purge (purge.h); after a purge that gave too little the next look is further away.
 * Threads: note() all, inside malloc and free; the task on the service thread.
 */
#pragma once

#include "engine/fork.h"
#include "engine/service.h"
#include "pacing/purge_pacer.h"

namespace memlimit::rest_watch {

/** After each look: where something is idle above the limit, the service thread is to look again, and is woken for that once
 *  a second at most. */
void note(const PurgeInput& in) noexcept;

extern const service::Task kTask;
extern const fork::Part kForkPart;

}  // namespace memlimit::rest_watch
