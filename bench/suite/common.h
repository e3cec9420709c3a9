/* What every program of the suite shares: a fixed random sequence, arguments, and one line of
 * result.
 *
 * Answers for: the same work and the same checksum whatever the allocator, so that a run measured
 * from outside differs in nothing but malloc and free. Refuses to time anything itself.
 * Threads: every function may be called by any thread; an Rng belongs to one.
 */
#pragma once

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace bench {

/** xorshift64*: three shifts and a multiplication, so that the loop stays small beside malloc. */
class Rng {
 public:
  explicit Rng(uint64_t seed) noexcept : state_(seed * 0x9E3779B97F4A7C15ULL | 1) {}

  /** 64 random bits; the high ones are the better ones. */
  uint64_t next() noexcept {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }

  /** A number in [low, high], both included; high - low < 2^32. */
  uint64_t between(uint64_t low, uint64_t high) noexcept {
    return low + ((next() >> 32) * (high - low + 1) >> 32);
  }

 private:
  uint64_t state_;
};

/** Tells the compiler that the block is used, so that no malloc+free pair is optimised away. */
inline void keep(void* block) noexcept { asm volatile("" : : "r"(block) : "memory"); }

/** Argument `index` as a number, or `fallback` when it is not there; ends the program when it is
 * not a positive number. */
inline uint64_t arg_number(int argc, char** argv, int index, uint64_t fallback) {
  if (index >= argc) return fallback;
  char* end = nullptr;
  const uint64_t value = std::strtoull(argv[index], &end, 10);
  if (end == argv[index] || *end != '\0' || value == 0) {
    std::fprintf(stderr, "%s: \"%s\" is not a positive number\n", argv[0], argv[index]);
    std::exit(2);
  }
  return value;
}

/** The line that every program ends with; run.py compares it between allocators. */
inline void report(uint64_t operations, uint64_t checksum) {
  std::printf("ops=%" PRIu64 " checksum=%016" PRIx64 "\n", operations, checksum);
}

/** malloc that ends the program on failure: a benchmark has nothing to fall back to. */
inline char* must_malloc(size_t size) {
  void* block = std::malloc(size);
  if (block == nullptr) {
    std::fprintf(stderr, "malloc(%zu) failed\n", size);
    std::abort();
  }
  return static_cast<char*>(block);
}

/**
 * The loop of the suite: 64 slots, each turn frees one at random and fills it with 16-527 bytes.
 * Returns a checksum of the bytes that the blocks carried.
 */
inline uint64_t run_pairs(uint64_t iterations, uint64_t seed) {
  char* slots[64] = {};
  Rng rng(seed);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    const uint64_t bits = rng.next();
    char*& slot = slots[bits >> 58];
    if (slot != nullptr) sum += static_cast<unsigned char>(*slot);
    std::free(slot);
    slot = must_malloc(16 + (bits >> 40 & 511));
    *slot = static_cast<char>(bits >> 32);
  }
  for (char* slot : slots) std::free(slot);
  return sum;
}

}  // namespace bench
