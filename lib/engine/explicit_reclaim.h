/* Reclaim because somebody asked: memlimit_reclaim(), malloc_trim().
 *
 * Threads: any, outside hooks (there it does nothing). Waits for the service thread, ten seconds at most.
 */
#pragma once

#include <cstdint>

namespace memlimit::explicit_reclaim {

/** memlimit_reclaim(): a round now, that asks everybody for so many bytes, or for all there is. Returns bytes freed. */
int64_t now(int64_t bytes) noexcept;

/** Gives idle pages back now: the caller's, those of exited threads, and, at their next operation, those
 *  of all other threads. Returns how much the footprint fell during the call, bytes. */
int64_t purge_now() noexcept;

}  // namespace memlimit::explicit_reclaim
