/* V8, as in Node.js 18 to 22: memory-pressure notifications, made in an interrupt of the isolate.
 *
 * An isolate (a heap with its thread) is only ever touched by the thread that has entered it, so it
 * cannot go away meanwhile. RequestInterrupt() may be called in the middle of anything, the collector
 * included; the callback runs on that thread when JavaScript next looks at its stack guard. A notification
 * from another thread would be handed to a task runner, which aborts while Node shuts down.
 *
 * The functions are found by their mangled names, which the program exports for its add-ons.
 * Not served: a thread that waits for events runs no JavaScript, so it keeps what it has.
 */
#include <cstddef>

#include "runtimes/adapter.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

using Isolate = void;

/* v8::MemoryPressureLevel */
enum class Pressure : int { kNone, kModerate, kCritical };

/* v8::HeapStatistics: only ever grows at its end; in V8 11 it has 14 words. */
struct HeapStatistics {
  size_t total_heap_size;
  size_t total_heap_size_executable;
  size_t total_physical_size;
  size_t total_available_size;
  size_t used_heap_size;
  size_t rest[59];
};

struct Functions {
  Isolate* (*try_get_current)();
  void (*request_interrupt)(Isolate*, void (*)(Isolate*, void*), void*);
  void (*notify)(Isolate*, Pressure);
  void (*get_statistics)(Isolate*, HeapStatistics*);
};
constinit Functions v8{};

/* The interrupt this thread has asked for and that has not come yet. */
struct Outstanding {
  Isolate* isolate = nullptr;
  int64_t since_ns = 0;
};
MEMLIMIT_TLS Outstanding outstanding{};

bool attach(const ElfImage& image) noexcept {
  Functions found{};
  if (!image.find("_ZN2v87Isolate13TryGetCurrentEv", &found.try_get_current) ||
      !image.find("_ZN2v87Isolate16RequestInterruptEPFvPS0_PvES2_", &found.request_interrupt) ||
      !image.find("_ZN2v87Isolate26MemoryPressureNotificationENS_19MemoryPressureLevelE",
                  &found.notify) ||
      !image.find("_ZN2v87Isolate17GetHeapStatisticsEPNS_14HeapStatisticsE",
                  &found.get_statistics)) {
    return false;
  }
  v8 = found;
  return true;
}

int64_t used_bytes(Isolate* isolate) {
  HeapStatistics statistics{};
  v8.get_statistics(isolate, &statistics);
  return static_cast<int64_t>(statistics.used_heap_size);
}

Outcome reclaim(const Work& work) {
  Outcome outcome;
  Isolate* const isolate = v8.try_get_current();
  if (isolate == nullptr) return outcome;
  outcome.ran = true;
  // Until there marking in the background will do: it takes a tenth of a second, in which the heap grows by
  // a few percent of a limit.
  const bool urgent =
      work.level >= Level::kCritical || work.paced_bytes >= work.limit_bytes - work.limit_bytes / 8;
  if (!urgent) {
    v8.notify(isolate, Pressure::kModerate);
    v8.notify(isolate, Pressure::kNone);
    outcome.started = true;
    return outcome;
  }
  const int64_t used_before = used_bytes(isolate);
  const int64_t process_before_ns = os::process_cpu_ns();
  const int64_t thread_before_ns = os::thread_cpu_ns();
  // Collects at once, being on the isolate's thread. Back to none, or the next one would do nothing.
  v8.notify(isolate, Pressure::kCritical);
  v8.notify(isolate, Pressure::kNone);
  outcome.recycled_bytes = used_before - used_bytes(isolate);
  // The collector's helpers; in a program with several isolates also what those did meanwhile.
  outcome.parallel_cpu_ns =
      (os::process_cpu_ns() - process_before_ns) - (os::thread_cpu_ns() - thread_before_ns);
  return outcome;
}

void on_interrupt(Isolate*, void*) {
  outstanding = {};
  arrive(kV8);
}

Asked ask(int64_t now_ns) noexcept {
  Isolate* const isolate = v8.try_get_current();
  if (isolate == nullptr) return Asked::kNotMine;
  if (outstanding.isolate == isolate && now_ns - outstanding.since_ns < kRequestExpiresNs) {
    return Asked::kNotNow;
  }
  outstanding = {isolate, now_ns};
  v8.request_interrupt(isolate, on_interrupt, nullptr);
  return Asked::kAsked;
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept { outstanding = {}; }

}  // namespace

constinit const Adapter kV8{
    "v8", "_ZN2v87Isolate13TryGetCurrentEv", attach, ask, reclaim, reset_after_fork, nullptr};

}  // namespace memlimit::runtimes
