/* V8, as in Node.js 18 to 22: memory-pressure notifications, made in an interrupt of the isolate.
 *
 * An isolate (a heap with its thread) is only ever touched by the thread that has entered it, so it
 * cannot go away meanwhile. RequestInterrupt() may be called in the middle of anything, the collector
 * included; the callback runs on that thread when JavaScript next looks at its stack guard. A notification
 * from another thread would be handed to a task runner, which aborts while Node shuts down.
 *
 * A thread that waits for events runs no JavaScript. Left alone, V8 comes back to its garbage 100 seconds after its last
 * full collection, when the program was busy before it slept. Node's threads are woken, by the service thread, and an
 * isolate that has something to give collects in its event loop. For that each is interrupted once, early: node_loop.h.
 *
 * The functions are found by their mangled names, which the program exports for its add-ons.
 * Not served while they wait: threads of programs that are not Node.
 */
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "engine/service.h"
#include "runtimes/adapter.h"
#include "runtimes/aftermath.h"
#include "runtimes/node_loop.h"
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
  size_t heap_size_limit;
  size_t malloced_memory;
  size_t external_memory; /* of buffers */
  size_t rest[56];
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

/* This thread's isolate when it last collected, or began to. */
struct Collected {
  Isolate* isolate = nullptr;
  int64_t left_bytes = 0; /* in use afterwards, or when it began */
  int64_t at_ns = 0;
  int64_t cpu_ns = 0; /* on all threads, of the last whole one that was waited for */
  bool urgently = false;
  int64_t rest_until_ns = 0;
};
MEMLIMIT_TLS Collected collected{};

/* An isolate that is woken collects when it has so much more than then, and an eighth more; an explicit reclaim gets little
 * things, too. What a thread that waits does now and then should not cost it a collection in each round. */
constexpr int64_t kWorthBytes = int64_t{1} << 20;
constexpr int64_t kWorthOfAllBytes = int64_t{64} << 10;
constexpr int64_t kWorthDivisor = 8;

/* Where nothing paces it, in an explicit reclaim and when it is woken, it does not collect again before so many times as
 * long as its last collection took: whoever demands all that can be had each 0.3 ms would get nothing else. */
constexpr int64_t kRest = 3;

/* The interrupt that has this thread's isolate join its event loop: at first it may be too early for that, and where it is
 * not Node's it always is. */
struct Joining {
  Isolate* isolate = nullptr;
  int tries = 0;
  int64_t again_ns = 0;
};
MEMLIMIT_TLS Joining joining{};
constexpr int kMostTries = 8;
constexpr int64_t kFirstPauseNs = 10'000'000; /* twice as long after each */

void at_event_loop(Isolate* isolate);

/* Told to notify an isolate that makes a snapshot, V8 11 begins to mark its heap, which cannot be marked then, and crashes.
 * Node makes one under these options, which come with the command alone. */
constexpr std::string_view kSnapshotOptions[] = {"--build-snapshot", "--experimental-sea-config",
                                                 "--build-sea"};
constinit bool makes_snapshot = false;

bool is_to_make_snapshot() noexcept {
  char text[4096];
  const int64_t bytes = os::read_file("/proc/self/cmdline", text, sizeof text);
  for (const char* word = text; word < text + bytes; word += strlen(word) + 1) {
    for (const std::string_view option : kSnapshotOptions) {
      if (std::string_view(word).starts_with(option)) return true;
    }
  }
  return false;
}

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
  makes_snapshot = is_to_make_snapshot();
  node_loop::attach(image, at_event_loop);
  return true;
}

int64_t used_bytes(const HeapStatistics& statistics) noexcept {
  return static_cast<int64_t>(statistics.used_heap_size + statistics.external_memory);
}

int64_t used_bytes(Isolate* isolate) {
  HeapStatistics statistics{};
  v8.get_statistics(isolate, &statistics);
  return used_bytes(statistics);
}

bool collects_again(const HeapStatistics& statistics, int64_t elapsed_ns) noexcept {
  const auto committed = static_cast<int64_t>(statistics.total_heap_size);
  const int64_t unused = committed - static_cast<int64_t>(statistics.used_heap_size) +
                         static_cast<int64_t>(statistics.external_memory);
  return aftermath::collects_again(committed, unused, elapsed_ns);
}

/* Whether what was begun in the background goes on, as far as one can see from outside: what is in use falls when it ends. */
constexpr int64_t kLongestMarkingNs = 1'000'000'000;
bool is_marking(Isolate* isolate, int64_t used_bytes, int64_t now_ns) noexcept {
  return collected.isolate == isolate && !collected.urgently &&
         used_bytes >= collected.left_bytes && now_ns - collected.at_ns < kLongestMarkingNs;
}

// Until there marking in the background will do: it takes a tenth of a second, in which the heap grows by
// a few percent of a limit.
bool is_urgent(const Work& work) noexcept {
  return work.everything || work.level >= Level::kCritical ||
         work.paced_bytes >= work.limit_bytes - work.limit_bytes / 8;
}

Outcome reclaim(const Work& work) {
  Outcome outcome;
  Isolate* const isolate = v8.try_get_current();
  if (isolate == nullptr) return outcome;
  const int64_t used_before = used_bytes(isolate);
  const int64_t begin_ns = os::monotonic_ns();
  // Marking in the background is not seen by who measures. It is charged when it begins, as the last one that was.
  const int64_t usual_cpu_ns = collected.isolate == isolate ? collected.cpu_ns : 0;
  if (!is_urgent(work)) {
    if (is_marking(isolate, used_before, begin_ns)) return outcome;
    outcome.ran = true;
    v8.notify(isolate, Pressure::kModerate);
    v8.notify(isolate, Pressure::kNone);
    collected = {isolate, used_before, begin_ns, usual_cpu_ns, false, 0};
    outcome.started = true;
    outcome.parallel_cpu_ns = usual_cpu_ns;
    return outcome;
  }
  outcome.ran = true;
  const int64_t process_before_ns = os::process_cpu_ns();
  const int64_t thread_before_ns = os::thread_cpu_ns();
  // Collects at once, being on the isolate's thread. Back to none, or the next one would do nothing.
  v8.notify(isolate, Pressure::kCritical);
  v8.notify(isolate, Pressure::kNone);
  // The collector's helpers; in a program with several isolates also what those did meanwhile.
  const int64_t cpu_ns = os::process_cpu_ns() - process_before_ns;
  outcome.parallel_cpu_ns = cpu_ns - (os::thread_cpu_ns() - thread_before_ns);
  const int64_t end_ns = os::monotonic_ns();
  HeapStatistics statistics{};
  v8.get_statistics(isolate, &statistics);
  outcome.parallel_cpu_ns +=
      aftermath::after_urgent_ns(cpu_ns, collects_again(statistics, end_ns - begin_ns));
  const int64_t left_bytes = used_bytes(statistics);
  collected = {isolate, left_bytes, end_ns, cpu_ns, true, end_ns + kRest * (end_ns - begin_ns)};
  outcome.recycled_bytes = used_before - left_bytes;
  return outcome;
}

bool rests(Isolate* isolate) {
  return collected.isolate == isolate && os::monotonic_ns() < collected.rest_until_ns;
}

/* Whether a round that finds the thread waiting is worth a collection. */
bool is_worth(Isolate* isolate, const Work& work) {
  if (collected.isolate != isolate) return true;
  if (is_urgent(work) && !collected.urgently) return true;
  if (rests(isolate)) return false;
  const int64_t grown = used_bytes(isolate) - collected.left_bytes;
  if (work.everything) return grown >= kWorthOfAllBytes;
  return grown >= std::max(kWorthBytes, collected.left_bytes / kWorthDivisor);
}

void at_event_loop(Isolate* isolate) {
  Work work;
  if (v8.try_get_current() != isolate || !is_wanted(kV8, &work)) return;
  if (is_worth(isolate, work)) arrive(kV8);
}

void on_interrupt(Isolate* isolate, void*) {
  outstanding = {};
  node_loop::join(isolate);
  Work work;
  if (!is_wanted(kV8, &work) || (work.everything && rests(isolate))) return;
  arrive(kV8);
}

void on_interrupt_to_join(Isolate* isolate, void*) { node_loop::join(isolate); }

/* By the service thread isolates are woken: while there is none, none is to be. */
void prepare() noexcept {
  Isolate* const isolate = v8.try_get_current();
  if (isolate == nullptr || makes_snapshot || !node_loop::is_to_join(isolate)) return;
  if (!service::running()) return;
  if (joining.isolate != isolate) joining = {isolate, 0, 0};
  if (joining.tries >= kMostTries) return;
  const int64_t now_ns = os::monotonic_ns();
  if (now_ns < joining.again_ns) return;
  joining.again_ns = now_ns + (kFirstPauseNs << joining.tries++);
  v8.request_interrupt(isolate, on_interrupt_to_join, nullptr);
}

Asked ask(int64_t now_ns) noexcept {
  Isolate* const isolate = v8.try_get_current();
  if (isolate == nullptr || makes_snapshot) return Asked::kNotMine;
  if (outstanding.isolate == isolate && now_ns - outstanding.since_ns < kRequestExpiresNs) {
    return Asked::kNotNow;
  }
  outstanding = {isolate, now_ns};
  v8.request_interrupt(isolate, on_interrupt, nullptr);
  return Asked::kAsked;
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  outstanding = {};
  node_loop::abandon_all();
}

}  // namespace

constinit const Adapter kV8{.name = "v8",
                            .landmark = "_ZN2v87Isolate13TryGetCurrentEv",
                            .attach = attach,
                            .ask = ask,
                            .reclaim = reclaim,
                            .reset_after_fork = reset_after_fork,
                            .help = node_loop::wake_all,
                            .prepare = prepare,
                            .helps_in_rounds = true};

}  // namespace memlimit::runtimes
