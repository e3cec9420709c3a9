/* See cpython_waits.h. Lib/threading.py waits by Lock.acquire, which calls PyThread_acquire_lock_timed with
 * intr_flag, and from 3.13 on, in join, by _PySemaphore_Wait. Both return what tells an interruption from a
 * timeout, and the callers then run Py_MakePendingCalls; or wait on, where they do not want to be told. */
#include "runtimes/cpython_waits.h"

#include <cerrno>

#include "engine/pressure.h"
#include "system/os.h"

namespace memlimit::runtimes::cpython_waits {

constinit Code code[kFunctions]{};

namespace {

constexpr const char* kNames[kFunctions] = {"PyThread_acquire_lock_timed", "_PySemaphore_Wait"};

constexpr int64_t kSecondNs = 1'000'000'000;

/* A slice: while rounds ask for the collector, while they may at any time, while there is room, and while there is no
 * limit. An idle program is woken twice a second at most. */
constexpr int64_t kAskedSliceNs = 16'000'000;
constexpr int64_t kNearSliceNs = 64'000'000;
constexpr int64_t kRoomySliceNs = 500'000'000;
constexpr int64_t kUnlimitedSliceNs = 5 * kSecondNs;

int64_t slice_ns() noexcept {
  if (!pressure::active()) return kUnlimitedSliceNs;
  if (asked_lately(os::monotonic_ns())) return kAskedSliceNs;
  return pressure::level() == Level::kLow ? kRoomySliceNs : kNearSliceNs;
}

timespec after(const timespec& from, int64_t ns) noexcept {
  const int64_t sum = from.tv_nsec + ns;
  return {from.tv_sec + sum / kSecondNs, sum % kSecondNs};
}

bool is_before(const timespec& a, const timespec& b) noexcept {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

}  // namespace

void watch(const ElfImage& image) noexcept {
  for (size_t i = 0; i < kFunctions; ++i) {
    code[i].begin.store(reinterpret_cast<uintptr_t>(image.symbol(kNames[i])),
                        std::memory_order_relaxed);
    code[i].bytes.store(image.symbol_bytes(kNames[i]), std::memory_order_relaxed);
  }
}

int wait(sem_t* semaphore, clockid_t clock, const timespec* deadline, ClockWait clock_wait) {
  for (;;) {
    timespec now{};
    if (clock_gettime(clock, &now) != 0) return clock_wait(semaphore, clock, deadline);
    const timespec end = after(now, slice_ns());
    // Also a deadline that is no time at all, of which libc says so.
    if (deadline != nullptr && !is_before(end, *deadline))
      return clock_wait(semaphore, clock, deadline);
    if (clock_wait(semaphore, clock, &end) == 0) return 0;
    if (errno != ETIMEDOUT) return -1;
    if (call_is_queued()) {
      errno = EINTR;
      return -1;
    }
  }
}

}  // namespace memlimit::runtimes::cpython_waits
