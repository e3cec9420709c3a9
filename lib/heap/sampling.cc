/* See sampling.h. */
#include "heap/sampling.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "heap/page_source.h"
#include "heap/thread_cache.h"
#include "heap/transfer.h"
#include "system/attributes.h"

namespace memlimit::heap::sampling {
namespace {

/* More blocks than a thread ever takes. */
constexpr double kMostGap = 0x1p62;

constinit std::atomic<uint64_t> interval_bytes{0};
/* Counts the changes of the interval. */
constinit std::atomic<uint32_t> turn{0};

uint64_t interval() noexcept { return interval_bytes.load(std::memory_order_relaxed); }

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016). */
uint64_t next_random(ThreadCache& cache) noexcept {
  uint64_t& state = cache.sample_random;
  // Caches lie where the kernel puts them: at random, and apart.
  if (state == 0)
    state = (reinterpret_cast<uintptr_t>(&cache) >> kPageShift) * 0x9e3779b97f4a7c15 | 1;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1d;
}

double next_distance(ThreadCache& cache) noexcept {
  return exponential(next_random(cache), static_cast<double>(interval()));
}

/* Blocks up to the next one to be sampled, that one included. */
uint64_t next_gap(ThreadCache& cache, unsigned class_index) noexcept {
  const double blocks = next_distance(cache) / kClasses[class_index].block_bytes;
  return static_cast<uint64_t>(std::min(blocks, kMostGap)) + 1;
}

/* In this order, and in handed_out() in the opposite one: who sees the new count sees that the base has changed. 0: the
 * count never comes to its end. */
void set_countdown(ThreadCache& cache, unsigned class_index, uint64_t gap) noexcept {
  std::atomic<uint64_t>& base = cache.pop_bases[class_index];
  std::atomic<uint64_t>& count = cache.pops[class_index];
  const uint64_t total = cache.handed_out(class_index);
  base.store(total << 1 | 1, std::memory_order_release);
  count.store(gap == 0 ? total : -gap, std::memory_order_release);
  base.store(gap == 0 ? 0 : (total + gap) << 1, std::memory_order_release);
}

MEMLIMIT_COLD void begin_turn(ThreadCache& cache, uint32_t now) noexcept {
  cache.sample_turn = now;
  const bool on = interval() != 0;
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    set_countdown(cache, i, on ? next_gap(cache, i) : 0);
  }
  cache.sample_left_bytes = on ? static_cast<int64_t>(next_distance(cache)) : 0;
}

bool tell(void* block, uint64_t block_bytes) noexcept {
  const HeapOps& ops = heap_ops();
  const uint64_t now = interval();
  return ops.sampled != nullptr && now != 0 && ops.sampled(block, block_bytes, now);
}

}  // namespace

double exponential(uint64_t random, double mean) noexcept {
  // The natural logarithm of u = random / 2^64, not 0: u = m * 2^e, m in [0.7, 1.4], and ln m = 2 artanh((m-1) / (m+1)), of
  // which six terms leave an error below 1e-10. libm is not linked in: a program may bring its own.
  const double u = (static_cast<double>(random >> 11) + 0.5) * 0x1p-53;
  const auto bits = std::bit_cast<uint64_t>(u);
  auto exponent = static_cast<int>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & ~(uint64_t{0x7ff} << 52)) | uint64_t{1023} << 52);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double z = (m - 1) / (m + 1);
  const double z2 = z * z;
  double sum = 1.0 / 11;
  for (const double term : {1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0}) sum = sum * z2 + term;
  return -(2 * z * sum + exponent * 0.6931471805599453) * mean;
}

void set_interval_bytes(uint64_t bytes) noexcept {
  if (interval_bytes.exchange(bytes, std::memory_order_relaxed) == bytes) return;
  // Release: who sees the turn sees the interval.
  turn.fetch_add(1, std::memory_order_release);
}

void follow_interval(ThreadCache& cache) noexcept {
  const uint32_t now = turn.load(std::memory_order_acquire);
  if (MEMLIMIT_UNLIKELY(cache.sample_turn != now)) begin_turn(cache, now);
}

void* take_twin(ThreadCache& cache, unsigned class_index, void* block) noexcept {
  set_countdown(cache, class_index, interval() == 0 ? 0 : next_gap(cache, class_index));
  const uint64_t block_bytes = kClasses[class_index].block_bytes;
  void* const twin = transfer::take_one(twin_of(class_index));
  if (twin == nullptr) return block;
  if (!tell(twin, block_bytes)) {
    transfer::return_one(twin_of(class_index), twin);
    return block;
  }
  // Taken beside what is in the stack, to which the other block goes back.
  cache.taken_bytes.store(cache.taken_bytes.load(std::memory_order_relaxed) + block_bytes,
                          std::memory_order_release);
  transfer::push(cache, class_index, block);
  return twin;
}

void consider(ThreadCache& cache, void* block, uint64_t block_bytes) noexcept {
  follow_interval(cache);
  if (interval() == 0) return;
  cache.sample_left_bytes -= static_cast<int64_t>(block_bytes);
  if (cache.sample_left_bytes >= 0) return;
  // The distance has no memory: where in the block the byte lies does not matter for the next.
  cache.sample_left_bytes = static_cast<int64_t>(next_distance(cache));
  tell(block, block_bytes);
}

void record(void* block, uint64_t block_bytes) noexcept { tell(block, block_bytes); }

bool forget(void* block) noexcept {
  // Once there was an interval, blocks may be sampled for as long as they live.
  if (MEMLIMIT_LIKELY(turn.load(std::memory_order_relaxed) == 0)) return false;
  const HeapOps& ops = heap_ops();
  return ops.sample_freed != nullptr && ops.sample_freed(block);
}

}  // namespace memlimit::heap::sampling
