/* Stress of the heap as a plain library: every call, content checks, blocks handed between threads, threads that come
 * and go, forks, and a purge every millisecond, on 1 to 64 threads. Built also under the thread and the address
 * sanitizer.
 *
 * Prints one line a round and ends with 1 at the first block whose content is not what its owner wrote, or when the
 * count is not exact once all is free. Usage: heap_stress [seconds] [threads, 0: 1 to 64 in turn]
 */
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "heap/figures.h"
#include "heap/heap.h"
#include "heap/purge.h"

namespace {

using namespace memlimit;
using Clock = std::chrono::steady_clock;

constexpr unsigned kThreadCounts[] = {1, 2, 3, 4, 8, 16, 32, 64};
constexpr auto kRound = std::chrono::milliseconds(500);

/* What a block holds: its size, and a word that follows from its address and size, at both ends. */
struct Header {
  size_t bytes;
  uint64_t mark;
};

[[noreturn]] void fail(const char* what, const void* block) {
  std::fprintf(stderr, "heap_stress: %s (block %p)\n", what, block);
  std::abort();
}

uint64_t mark_of(const void* block, size_t bytes) {
  return (reinterpret_cast<uint64_t>(block) ^ bytes * 0x9E3779B97F4A7C15U) | 1;
}

/* So that a block that two owners have is found out: each page has the mark, and the end. */
void write_marks(void* block, size_t bytes) {
  const uint64_t mark = mark_of(block, bytes);
  auto* const base = static_cast<char*>(block);
  for (size_t at = sizeof(Header); at + 8 <= bytes; at += 1024) memcpy(base + at, &mark, 8);
  if (bytes >= sizeof(Header) + 8) memcpy(base + bytes - 8, &mark, 8);
  const Header header{bytes, mark};
  memcpy(block, &header, sizeof header);
}

void check_marks(const void* block) {
  Header header;
  memcpy(&header, block, sizeof header);
  const uint64_t mark = mark_of(block, header.bytes);
  if (header.mark != mark) fail("the header was overwritten", block);
  const auto* const base = static_cast<const char*>(block);
  uint64_t seen = 0;
  for (size_t at = sizeof(Header); at + 8 <= header.bytes; at += 1024) {
    memcpy(&seen, base + at, 8);
    // The mark at the end may lie over the last of these.
    if (seen != mark && at + 16 <= header.bytes) fail("the content was overwritten", block);
  }
  if (header.bytes >= sizeof(Header) + 8) {
    memcpy(&seen, base + header.bytes - 8, 8);
    if (seen != mark) fail("the end was overwritten", block);
  }
  if (heap::usable_bytes(block) < header.bytes) fail("the block is smaller than it was", block);
}

size_t any_size(std::mt19937& random) {
  // Each octave half as likely as the one before, up to some MiB.
  const unsigned octave = 4 + static_cast<unsigned>(__builtin_ctz((random() & 0x3fffff) | 0x20000));
  return std::max<size_t>((size_t{1} << octave) + random() % (size_t{1} << octave), sizeof(Header));
}

bool is_zero(const void* block, size_t bytes) {
  const auto* const base = static_cast<const char*>(block);
  return base[0] == 0 && memcmp(base, base + 1, bytes - 1) == 0;
}

void* make(std::mt19937& random) {
  const size_t bytes = any_size(random);
  void* block = nullptr;
  switch (random() % 8) {
    case 0:
      block = heap::allocate_zeroed(bytes);
      if (block != nullptr && !is_zero(block, bytes)) fail("a zeroed block is not zero", block);
      break;
    case 1: {
      const size_t alignment = size_t{16} << random() % (random() % 16 == 0 ? 20 : 9);
      block = heap::allocate_aligned(alignment, bytes);
      if ((reinterpret_cast<uintptr_t>(block) & (alignment - 1)) != 0) fail("not aligned", block);
      break;
    }
    default:
      block = heap::allocate(bytes);
  }
  if (block == nullptr) fail("no memory", block);
  if (heap::usable_bytes(block) < bytes) fail("too small", block);
  write_marks(block, bytes);
  return block;
}

void drop(void* block, std::mt19937& random) {
  if (block == nullptr) return;
  check_marks(block);
  size_t bytes = 0;
  memcpy(&bytes, block, sizeof bytes);
  // So that who still has it finds it broken.
  memset(block, 0xdd, sizeof(Header));
  if (random() % 4 == 0) {
    heap::release_sized(block, bytes);
  } else {
    heap::release(block);
  }
}

void* resized(void* block, std::mt19937& random) {
  check_marks(block);
  Header header;
  memcpy(&header, block, sizeof header);
  const size_t bytes = any_size(random);
  void* moved = heap::resize(block, bytes);
  if (moved == nullptr) {
    moved = heap::allocate(bytes);
    if (moved == nullptr) fail("no memory", block);
    memcpy(moved, block, std::min(bytes, header.bytes));
    memset(block, 0xdd, sizeof(Header));
    heap::release(block);
  }
  if (memcmp(moved, &header, sizeof header) != 0) fail("resizing lost the content", moved);
  write_marks(moved, bytes);
  return moved;
}

struct Round {
  std::atomic<bool> stop{false};
  std::atomic<void*> shared[256] = {};
  std::atomic<uint64_t> operations{0};
};

void work(Round& round, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<void*> own(128, nullptr);
  uint64_t operations = 0;
  // Short lives, too: then others follow.
  const uint64_t longest = seed % 3 == 0 ? 500 : UINT64_MAX;
  while (!round.stop.load(std::memory_order_relaxed) && operations < longest) {
    void*& slot = own[random() % own.size()];
    ++operations;
    switch (random() % 8) {
      case 0:
      case 1:
        slot = round.shared[random() % 256].exchange(slot, std::memory_order_acq_rel);
        break;
      case 2:
        if (slot != nullptr) slot = resized(slot, random);
        break;
      case 3:
        if (operations % 64 == 0) heap::look_at_next_allocation();
        [[fallthrough]];
      default:
        drop(slot, random);
        slot = make(random);
    }
    if (operations % 4096 == 0) heap::flush_own_cache();
  }
  for (void* const block : own) drop(block, random);
  round.operations += operations;
  heap::thread_exit();
  // Its destructors have run: what comes now does without a cache.
  drop(make(random), random);
}

/* The child works on with what it has, alone. */
void fork_once(unsigned seed) {
  const pid_t child = fork();
  if (child < 0) return;
  if (child == 0) {
    if (seed % 2 == 0) heap::reset_after_fork();
    alarm(60);
    std::mt19937 random(seed);
    std::vector<void*> own(64, nullptr);
    for (int i = 0; i < 500; ++i) {
      void*& slot = own[random() % own.size()];
      drop(slot, random);
      slot = make(random);
      if (i == 250) heap::purge(UINT32_MAX);
    }
    for (void* const block : own) drop(block, random);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) fail("the child of a fork failed", nullptr);
}

void run_round(unsigned threads, unsigned seed, bool with_forks) {
  Round round;
  const int64_t live_before = heap::figures::totals().live_bytes();
  std::vector<std::thread> workers(threads);
  for (unsigned t = 0; t < threads; ++t)
    workers[t] = std::thread(work, std::ref(round), seed * 64 + t);
  const auto end = Clock::now() + kRound;
  for (unsigned turn = 0; Clock::now() < end; ++turn) {
    heap::purge(turn % 8 == 0 ? UINT32_MAX : 32);
    if (with_forks && turn % 64 == 0) fork_once(seed + turn);
    // Whoever has ended is followed by another.
    std::thread& worker = workers[turn % threads];
    if ((seed * 64 + turn % threads) % 3 == 0) {
      worker.join();
      worker = std::thread(work, std::ref(round), seed * 64 + turn % threads);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  round.stop = true;
  for (std::thread& worker : workers) worker.join();
  std::mt19937 random(seed);
  for (auto& slot : round.shared) drop(slot.load(), random);
  heap::flush_own_cache();
  const int64_t left = heap::figures::totals().live_bytes() - live_before;
  std::printf("%2u threads: %llu operations, %lld bytes left\n", threads,
              static_cast<unsigned long long>(round.operations.load()),
              static_cast<long long>(left));
  std::fflush(stdout);
  if (left != 0) fail("the count is not exact", nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  const long seconds = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 4;
  const unsigned threads = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 0;
#if MEMLIMIT_THREAD_SANITIZER
  const bool with_forks = false;  // its child of a process with threads does not work
#else
  const bool with_forks = true;
#endif
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  unsigned round = 0;
  do {
    run_round(threads != 0 ? threads : kThreadCounts[round % std::size(kThreadCounts)], round + 1,
              with_forks);
    ++round;
  } while (Clock::now() < end || (threads == 0 && round < std::size(kThreadCounts)));
  return 0;
}
