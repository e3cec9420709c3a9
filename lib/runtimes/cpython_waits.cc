/* See cpython_waits.h. Lib/threading.py waits by Lock.acquire, which calls PyThread_acquire_lock_timed with
 * intr_flag, and from 3.13 on, in join, by _PySemaphore_Wait. Both return what tells an interruption from a
 * timeout, and the callers then run Py_MakePendingCalls; or wait on, where they do not want to be told. */
#include "runtimes/cpython_waits.h"

#include <algorithm>
#include <cerrno>

#include "engine/pressure.h"
#include "system/os.h"

namespace memlimit::runtimes::cpython_waits {

constinit Code code[kFunctions]{};

namespace {

constexpr const char* kNames[kFunctions] = {"PyThread_acquire_lock_timed", "_PySemaphore_Wait"};

constexpr int64_t kSecondNs = 1'000'000'000;

/* A slice: while rounds ask for the collector, while they may, and while there is no limit. While there is much room, too,
 * they may before it ends: a thread takes 600 MB in a second. */
constexpr int64_t kAskedSliceNs = 16'000'000;
constexpr int64_t kLimitedSliceNs = 64'000'000;
constexpr int64_t kUnlimitedSliceNs = 5 * kSecondNs;

/* While the process rests: nobody wakes a thread that waits for a semaphore of the program's, so what is made in one slice
 * after a rest may pass the limit. It rests while it uses less than this share of a processor. */
constexpr int64_t kRestSliceNs = 256'000'000;
constexpr int64_t kRestWorkDivisor = 64;

int64_t wanted_slice_ns(bool asked) noexcept {
  if (!pressure::active()) return kUnlimitedSliceNs;
  return asked ? kAskedSliceNs : kLimitedSliceNs;
}

/* How long the next slice is. */
class Slices {
 public:
  int64_t next_ns() noexcept {
    const bool asked = asked_lately(os::monotonic_ns());
    const int64_t cpu_ns = os::process_cpu_ns();
    const bool rests = last_ns_ > 0 && !asked && cpu_ns - cpu_ns_ < last_ns_ / kRestWorkDivisor;
    last_ns_ = std::max(wanted_slice_ns(asked), rests ? kRestSliceNs : 0);
    cpu_ns_ = cpu_ns;
    return last_ns_;
  }

 private:
  int64_t last_ns_ = 0;
  int64_t cpu_ns_ = 0; /* of the process, when the last one began */
};

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
  for (Slices slices;;) {
    timespec now{};
    if (clock_gettime(clock, &now) != 0) return clock_wait(semaphore, clock, deadline);
    const timespec end = after(now, slices.next_ns());
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
