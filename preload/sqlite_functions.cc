/* See sqlite_functions.h. */
#include "sqlite_functions.h"

#include <atomic>
#include <cstddef>

#include "runtimes/loaded_images.h"
#include "system/os.h"

namespace memlimit::sqlite_functions {
namespace {

using runtimes::Found;
using runtimes::Generation;

constexpr const char* kNames[] = {"sqlite3_open", "sqlite3_open16", "sqlite3_open_v2",
                                  "sqlite3_close", "sqlite3_close_v2"};

/* Any address in our own image. */
constinit const char self = 0;

enum class Way : uint8_t { kForCaller, kBeside };

uint32_t question(Function function, Way way) noexcept {
  return static_cast<uint32_t>(function) << 1 | static_cast<uint32_t>(way);
}

/* An answer that was found once. The sequence is odd while it is written; whoever finds it so, or changed
 * after reading, does without. */
class Slot {
 public:
  bool get(uint32_t asked, uintptr_t address, const Generation& now, void** function) noexcept {
    const uint32_t before = sequence_.load(std::memory_order_acquire);
    if ((before & 1) != 0) return false;
    const bool fits = function_.load(std::memory_order_relaxed) != nullptr &&
                      asked_.load(std::memory_order_relaxed) == asked &&
                      address >= begin_.load(std::memory_order_relaxed) &&
                      address < end_.load(std::memory_order_relaxed) &&
                      added_.load(std::memory_order_relaxed) == now.added &&
                      removed_.load(std::memory_order_relaxed) == now.removed;
    *function = function_.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    return fits && sequence_.load(std::memory_order_relaxed) == before;
  }

  void put(uint32_t asked, const Found& found) noexcept {
    uint32_t before = sequence_.load(std::memory_order_relaxed);
    if ((before & 1) != 0 ||
        !sequence_.compare_exchange_strong(before, before + 1, std::memory_order_acquire)) {
      return;
    }
    std::atomic_thread_fence(std::memory_order_release);
    function_.store(found.function, std::memory_order_relaxed);
    asked_.store(asked, std::memory_order_relaxed);
    begin_.store(found.begin, std::memory_order_relaxed);
    end_.store(found.end, std::memory_order_relaxed);
    added_.store(found.generation.added, std::memory_order_relaxed);
    removed_.store(found.generation.removed, std::memory_order_relaxed);
    sequence_.store(before + 2, std::memory_order_release);
  }

 private:
  std::atomic<uint32_t> sequence_{0};
  std::atomic<uint32_t> asked_{0};
  std::atomic<void*> function_{nullptr};
  std::atomic<uintptr_t> begin_{0};
  std::atomic<uintptr_t> end_{0};
  std::atomic<unsigned long long> added_{0};
  std::atomic<unsigned long long> removed_{0};
};

constexpr size_t kSlots = 16;
constinit Slot slots[kSlots]{};
constinit std::atomic<uint32_t> next_slot{0};

void* look_up(Function function, Way way, const void* address) noexcept {
  os::ErrnoGuard errno_guard;
  const uint32_t asked = question(function, way);
  const Generation now = runtimes::generation();
  for (Slot& slot : slots) {
    void* kept;
    if (slot.get(asked, reinterpret_cast<uintptr_t>(address), now, &kept)) return kept;
  }
  const char* const name = kNames[static_cast<size_t>(function)];
  const Found found = way == Way::kForCaller ? runtimes::definition_for(name, address, &self)
                                             : runtimes::definition_beside(name, address);
  // A caller in no image (compiled at run time) has no range, and no slot.
  if (found.function != nullptr && found.begin < found.end) {
    slots[next_slot.fetch_add(1, std::memory_order_relaxed) % kSlots].put(asked, found);
  }
  return found.function;
}

}  // namespace

void* real(Function function, const void* caller) noexcept {
  return look_up(function, Way::kForCaller, caller);
}

void* beside(Function function, const void* address) noexcept {
  return look_up(function, Way::kBeside, address);
}

}  // namespace memlimit::sqlite_functions
