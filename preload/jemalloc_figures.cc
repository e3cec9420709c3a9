/* See jemalloc_figures.h. */
#include "jemalloc_figures.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "engine/purge.h"
#include "heap/thread_cache.h"

namespace memlimit::jemalloc {
namespace {

constexpr unsigned kMostArenas = 4094; /* in the bits of MALLOCX_ARENA() */

constinit std::atomic<uint64_t> epoch_now{1};
constinit std::atomic<unsigned> arena_count{1};

/* A value that any thread reads and replaces, word by word: there is no lock that a fork could leave taken. Two threads that
 * replace it at once are of the same epoch, so a mixture of their values is as true as either. */
template <typename T>
class SharedCopy {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(uint64_t) == 0);

 public:
  void store(const T& value) noexcept {
    for (size_t i = 0; i < kWords; ++i) {
      uint64_t word;
      memcpy(&word, reinterpret_cast<const char*>(&value) + i * sizeof word, sizeof word);
      words_[i].store(word, std::memory_order_relaxed);
    }
  }

  void load(T* value) const noexcept {
    for (size_t i = 0; i < kWords; ++i) {
      const uint64_t word = words_[i].load(std::memory_order_relaxed);
      memcpy(reinterpret_cast<char*>(value) + i * sizeof word, &word, sizeof word);
    }
  }

 private:
  static constexpr size_t kWords = sizeof(T) / sizeof(uint64_t);
  std::atomic<uint64_t> words_[kWords];
};

constinit SharedCopy<ArenaReport> last_report{};
constinit std::atomic<uint64_t> last_epoch{0}; /* that the report is of */

ArenaReport report_now() noexcept {
  ArenaReport report{};
  report.sums = heap_report(report.classes);
  // While threads work a difference may be negative.
  for (heap::ClassFigures& sum : report.classes) {
    for (int64_t heap::ClassFigures::*figure :
         {&heap::ClassFigures::spans, &heap::ClassFigures::live_blocks,
          &heap::ClassFigures::popped_blocks, &heap::ClassFigures::live_bytes})
      sum.*figure = std::max<int64_t>(sum.*figure, 0);
  }
  report.threads = heap::thread_caches::count();
  report.purges = static_cast<uint64_t>(purge::ended());
  report.purged_bytes = static_cast<uint64_t>(purge::purged_bytes());
  return report;
}

}  // namespace

size_t active_bytes(const HeapReport& now) noexcept {
  // At least what is live, where the two are of different moments.
  return std::max(now.active_bytes,
                  (now.live_bytes + heap::kPageBytes - 1) & ~(heap::kPageBytes - 1));
}

size_t resident_bytes(const HeapReport& now) noexcept {
  return active_bytes(now) + now.dirty_bytes + now.record_bytes;
}

size_t mapped_bytes(const HeapReport& now) noexcept {
  return std::max(now.extent_bytes, active_bytes(now));
}

uint64_t begin_epoch() noexcept { return epoch_now.fetch_add(1, std::memory_order_relaxed) + 1; }

uint64_t current_epoch() noexcept { return epoch_now.load(std::memory_order_relaxed); }

namespace arenas {

unsigned count() noexcept { return arena_count.load(std::memory_order_relaxed); }

unsigned create() noexcept {
  unsigned next = count();
  while (next < kMostArenas) {
    if (arena_count.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) return next;
  }
  return 0;
}

bool exist(size_t index) noexcept { return index <= count() || index == kAll; }

ArenaReport report(size_t index) noexcept {
  if (index > 0 && index < count()) return {};
  ArenaReport report;
  const uint64_t wanted = current_epoch();
  if (last_epoch.load(std::memory_order_acquire) == wanted) {
    last_report.load(&report);
    return report;
  }
  report = report_now();
  last_report.store(report);
  last_epoch.store(wanted, std::memory_order_release);
  return report;
}

}  // namespace arenas
}  // namespace memlimit::jemalloc
