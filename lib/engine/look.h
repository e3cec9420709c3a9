/* When threads look up from their work, and what a look does: sample, decide, carry out.
 *
 * Answers for: noticing from the program's own allocations, frees and mappings that a round is due, and making
 * allocating threads wait a bounded time near the limit. Refuses to decide (decision.h). Nothing here ever makes an
 * allocation fail.
 * Threads: all. after_*() run inside malloc, free and mmap.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"

namespace memlimit::look {

/** A thread has just published in an allocation of so many bytes. */
void after_allocation(int64_t bytes) noexcept;

/** A thread has just published in a free. */
void after_free() noexcept;

/** A thread has just mapped this many bytes of its own (or made them writable): counts for the pacing as
 *  an allocation does, though not as usage. In any context, a signal handler inside malloc too: waits for
 *  no lock, leaves the thread's heap alone and calls no hook; what that takes is left to the service
 *  thread, and to the thread's next allocation, which also starts one. Keeps errno. */
void after_mapping(int64_t bytes) noexcept;

/** A thread has just unmapped this many bytes, or told the kernel to drop them: the footprint is read
 *  again the sooner. */
void after_unmapping(int64_t bytes) noexcept;

/** Looks at usage now, decides, and carries out. `insist`: also when another thread is deciding. With the reentrancy
 *  guard set and no lock held. */
void now(bool insist) noexcept;

/** For the service thread, every so often: with MEMLIMIT_ACCOUNT=cgroup looks at the group, which others
 *  fill while this process allocates nothing. */
void at_group() noexcept;

/** Whether usage has come far enough for a service thread to be worth having. */
bool wants_service() noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::look
