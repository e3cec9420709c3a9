/* Giving the allocator's idle pages back to the kernel: the acts, and their figures.
 *
 * Answers for: collecting the calling thread's heap, having every other thread collect its own at its next
 * look (an epoch: no thread may touch another's heap), and telling the allocator how eager to be by itself.
 * Refuses to decide when: purge_pacer.h. Threads: all, inside malloc and free, with the reentrancy guard
 * set.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "memlimit.h"
#include "pacing/pacer.h"

namespace memlimit::purge {

/** Collects the calling thread's heap, and what exited threads left. Returns how much the footprint fell,
 *  bytes; other threads' work blurs it. */
int64_t collect_own() noexcept;

/** Whether collect_if_asked() would collect. Any context. */
bool is_asked() noexcept;

/** Collects when every thread has been asked to, and this one has not yet. */
void collect_if_asked() noexcept;

/** Collects when this thread, which has just published after freeing, keeps much that it has freed. For when
 *  hoards_matter(). */
void collect_if_hoarding(int64_t limit_bytes) noexcept;

/** Asks every other thread to collect its own heap when it next looks. */
void ask_threads() noexcept;

/** Asks every thread, and the service thread for what exited threads left: has_request(). */
void ask_all() noexcept;

/** Frees what the allocator keeps for the next allocations, and asks for purges: it was a share of another limit, or
 *  nobody allocates any more. */
void give_up_kept() noexcept;

/** For the service thread: whether ask_all() was called since. */
bool has_request() noexcept;
bool take_request() noexcept;

/** Tells the allocator, if that is news to it. */
void set_eagerness(Level level) noexcept;

/** CPU time spent here, ever, nanoseconds; bytes given back, ever. */
int64_t cpu_ns() noexcept;
int64_t purged_bytes() noexcept;

void fill(memlimit_stats* figures) noexcept;

/** No thread collects while a process forks (fork::Inside): what it was collecting would be lost to the child, and what
 *  mimalloc 2 would wait for there is brought to an end on some machines only (preload/interrupted_readers.h). */
extern const fork::Part kForkPart;

}  // namespace memlimit::purge
