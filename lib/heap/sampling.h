/* Which blocks are sampled: one each so many bytes, at random, so that what is seen of them tells of all.
 *
 * A byte that is allocated is picked with probability 1 / interval, independently of all others, and the block that it lies
 * in is sampled: a block of s bytes with probability 1 - exp(-s / interval), as in Go's and TCMalloc's profiles. The number
 * of blocks of one size from one sample to the next is then geometric, so each class has a countdown of its own, which is
 * the count of blocks handed out: the fast path has a branch more, on a flag that is there already.
 *
 * A sampled small block comes from a span of its class's twin, which no thread's stack serves: so its free() leaves the
 * fast path, and nothing needs to be looked up in any other. Large blocks are off the fast path in any case.
 *
 * Threads: functions that take a cache: its owner, who holds it (CacheHold). Others: all. No locks.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit::heap {

struct ThreadCache;

namespace sampling {

/** Mean distance in bytes; 0: nothing is sampled. Blocks that are sampled already stay so until they are freed. */
void set_interval_bytes(uint64_t bytes) noexcept;

/** The cache counts for the interval in force from now on, if it has not yet. */
void follow_interval(ThreadCache& cache) noexcept;

/** A countdown is at its end with this block: returns the block to be handed out in its place. */
void* take_twin(ThreadCache& cache, unsigned class_index, void* block) noexcept;

/** A block that is not counted by class: samples it if its turn has come. */
void consider(ThreadCache& cache, void* block, uint64_t block_bytes) noexcept;

/** Samples this block, whatever the countdown. */
void record(void* block, uint64_t block_bytes) noexcept;

/** A block that is or may be sampled ends its life. Whether it was. */
bool forget(void* block) noexcept;

/** How far it is to the next picked byte: exponential with this mean. `random`: 64 random bits. */
double exponential(uint64_t random, double mean) noexcept;

}  // namespace sampling
}  // namespace memlimit::heap
