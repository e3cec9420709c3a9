/* The heap profile: what the blocks that the heap picks are, and where they came from.
 *
 * A block of s bytes is picked with probability p = 1 - exp(-s / interval) (heap/sampling.h), so it stands for s / p bytes:
 * the sums of these are unbiased for any set of blocks that is chosen without a look at who was picked.
 *
 * Threads: as said. Context: sampled() and sample_freed() in malloc, and in a signal handler that interrupts it.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profile/labels.h"
#include "profile/sites.h"

namespace memlimit::profile {

/** MEMLIMIT_PROFILE=on: the mean distance between samples, as in Go and TCMalloc. */
inline constexpr int64_t kDefaultIntervalBytes = int64_t{512} << 10;

enum class Ready : uint8_t {
  kYes,
  kNoMemory,
  kNoUnwinder, /* glibc before 2.35, or another libc */
};

/** Makes the tables where they are missing. One thread at a time; outside of malloc. */
Ready prepare() noexcept;

/** A picked block. false: it is not kept. */
bool sampled(void* block, uint64_t block_bytes, uint64_t interval_bytes) noexcept;

/** A block is about to be freed; whether it was one of those. */
bool sample_freed(void* block) noexcept;

/** How many bytes a picked block stands for, the interval being the mean distance. Pure. */
uint64_t bytes_for(uint64_t block_bytes, uint64_t interval_bytes) noexcept;

/** Counts the libraries that were loaded, each before another image can lie where one was: what is remembered about addresses
 *  holds for one number. Once, at start; lives for ever. */
void follow_loads(const std::atomic<uint32_t>& count) noexcept;

struct Figures {
  int64_t samples;       /* picked and alive */
  int64_t sites;         /* stacks met */
  int64_t dropped_bytes; /* that the samples stood for which had no room, ever */
};
Figures figures() noexcept;

/** All zero before prepare(). */
const Sites& sites() noexcept;
const Labels& labels() noexcept;

}  // namespace memlimit::profile
