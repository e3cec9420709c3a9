/* Who speaks for a memory group. That the container's limit cannot be held, or that it is nearly full, is found by each of its
 * processes that allocates, and said by one: the first that finds it, and nobody else for ten minutes or until it has ended.
 *
 * It holds the kernel's advisory lock (flock) on a file of the group that all of them see, whichever namespaces they are
 * in; nothing is written, and nobody waits for it. A rule without such a lock would need to know what the others have found:
 * the largest of them, or the oldest, may be the one that sleeps. Where the lock cannot be had at all, each process speaks.
 * Threads: the service thread.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "observe/event_ring.h"

namespace memlimit::group_voice {

/** For EventNames: whether this process says it. What does not concern the group it does. */
bool may_say(const Event& event) noexcept;

/** For EventNames: what this process holds of the paced bytes, where those are the group's; -1: they are its own. */
int64_t own_part() noexcept;

/** Lets go of what was said ten minutes ago. Every so often. */
void rest(int64_t now_ns) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::group_voice
