/* What is left in the process when a program has freed most of its 400,000 blocks of 256-2303
 * bytes.
 *
 * Prints live bytes and resident KiB at the peak, after the frees, and after the allocator was
 * asked by its own name for it to give back what it can. Each pattern is one way real programs
 * leave a heap behind:
 *   free_all       everything goes
 *   scattered      every fifth block survives: nearly every page keeps a live block
 *   first_fifth    the oldest fifth survives: whole pages come free
 *   idle_threads   four threads allocate a quarter each, free it all, then sleep; main asks
 *
 * Usage: fragmentation pattern [blocks]
 */
#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>

#include <barrier>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "common.h"

namespace {

/** Resident KiB of this process now, or -1. Reads statm with plain system calls: stdio would
 * allocate. */
int64_t resident_kib() {
  FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return -1;
  int64_t pages = -1;
  if (std::fscanf(file, "%*d %" SCNd64, &pages) != 1) pages = -1;
  std::fclose(file);
  return pages < 0 ? -1 : pages * (sysconf(_SC_PAGESIZE) / 1024);
}

template <typename Function>
Function find(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

/** Asks whichever allocator is in the process to give memory back. memlimit comes first, because
 * mimalloc's name is visible behind it; malloc_trim comes last, because glibc's is always there. */
const char* purge() {
  if (auto* reclaim = find<int64_t (*)(int64_t)>("memlimit_reclaim")) {
    reclaim(0);
    return "memlimit_reclaim";
  }
  if (auto* collect = find<void (*)(bool)>("mi_collect")) {
    collect(true);
    return "mi_collect";
  }
  if (auto* mallctl = find<int (*)(const char*, void*, size_t*, void*, size_t)>("mallctl")) {
    // 4096 stands for all arenas (MALLCTL_ARENAS_ALL); the thread's own cache goes first.
    mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
    mallctl("arena.4096.purge", nullptr, nullptr, nullptr, 0);
    return "arena.purge";
  }
  if (auto* release = find<void (*)()>("MallocExtension_ReleaseFreeMemory")) {
    release();
    return "ReleaseFreeMemory";
  }
  auto* trim = find<int (*)(size_t)>("malloc_trim");
  if (trim != nullptr) trim(0);
  return "malloc_trim";
}

class Blocks {
 public:
  Blocks(uint64_t count, uint64_t seed) : blocks_(count) {
    bench::Rng rng(seed);
    sizes_.reserve(count);
    for (char*& block : blocks_) {
      const size_t size = rng.between(256, 2303);
      block = bench::must_malloc(size);
      std::memset(block, 1, size);
      live_bytes_ += size;
      sizes_.push_back(static_cast<uint16_t>(size));
    }
  }

  /** Frees every block for which `survives(index)` is false. */
  template <typename Predicate>
  void free_unless(Predicate survives) {
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (survives(i)) continue;
      std::free(blocks_[i]);
      live_bytes_ -= sizes_[i];
    }
  }

  uint64_t live_bytes() const noexcept { return live_bytes_; }
  size_t count() const noexcept { return blocks_.size(); }

 private:
  std::vector<char*> blocks_;
  std::vector<uint16_t> sizes_;
  uint64_t live_bytes_ = 0;
};

struct Outcome {
  uint64_t live_bytes;
  int64_t peak_kib;
  int64_t freed_kib;
};

Outcome one_thread(std::string_view pattern, uint64_t count) {
  static Blocks blocks(count, 1);  // static: its destructor does not run before the purge
  const int64_t peak_kib = resident_kib();
  if (pattern == "free_all") {
    blocks.free_unless([](size_t) { return false; });
  } else if (pattern == "scattered") {
    blocks.free_unless([](size_t i) { return i % 5 == 0; });
  } else {
    blocks.free_unless([](size_t i) { return i < blocks.count() / 5; });
  }
  return {blocks.live_bytes(), peak_kib, resident_kib()};
}

/** Prints the line and leaves without running destructors, which would free what was just measured.
 */
[[noreturn]] void finish(const Outcome& outcome, uint64_t count) {
  const char* how = purge();
  const int64_t purged_kib = resident_kib();
  std::printf("purge=%s live_kib=%" PRIu64 " peak_kib=%" PRId64 " freed_kib=%" PRId64
              " purged_kib=%" PRId64 "\n",
              how, outcome.live_bytes / 1024, outcome.peak_kib, outcome.freed_kib, purged_kib);
  bench::report(count, outcome.live_bytes);
  std::fflush(stdout);
  _exit(0);
}

[[noreturn]] void idle_threads(uint64_t count) {
  constexpr uint64_t kThreads = 4;
  std::barrier<> all(kThreads + 1);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&all, count, t] {
      Blocks blocks(count / kThreads, t + 1);
      all.arrive_and_wait();  // peak
      all.arrive_and_wait();
      blocks.free_unless([](size_t) { return false; });
      all.arrive_and_wait();  // freed
      pause();                // and sleeps, as the idle worker of a pool does
    });
  }
  Outcome outcome = {0, 0, 0};
  all.arrive_and_wait();
  outcome.peak_kib = resident_kib();
  all.arrive_and_wait();
  all.arrive_and_wait();
  outcome.freed_kib = resident_kib();
  finish(outcome, count);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view pattern = argc > 1 ? argv[1] : "";
  const uint64_t count = bench::arg_number(argc, argv, 2, 400'000);
  if (pattern == "idle_threads") idle_threads(count);
  if (pattern == "free_all" || pattern == "scattered" || pattern == "first_fifth") {
    finish(one_thread(pattern, count), count);
  }
  std::fprintf(stderr, "usage: %s free_all|scattered|first_fifth|idle_threads [blocks]\n", argv[0]);
  return 2;
}
