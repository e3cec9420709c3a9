/* The JVM (HotSpot) of JDK 17 to 25: a full collection, asked for on the service thread.
 *
 * A Java VM lets any native thread attach to it and ask for what System.gc() asks for; the collection then runs on the VM's
 * own threads, at its own safepoint. So nobody has to be waited for. The thread is attached for that call only: one that
 * stays is in the way of the VM's start and end (measured, 0.80 s against 0.26 s a run). While it is, the VM unblocks the
 * signals by which it works; the others are blocked again at once.
 *
 * Called is JVM_GC(), which is Runtime.gc() without the Java around it: it obeys -XX:+DisableExplicitGC and
 * -XX:+ExplicitGCInvokesConcurrent, and cannot throw. ForceGarbageCollection of JVMTI does neither, and from JDK 21 on who
 * once asks for JVMTI slows down virtual threads for good: it is for those who have named the adapter although their
 * program disables explicit collections.
 *
 * ZGC and Shenandoah have a limit of their own that may change while they run, SoftMaxHeapSize. It is set where the VM
 * keeps it, as its own management interface does; that one would first load the module jdk.management, 150 ms of the
 * program's time, which an image made by jlink may lack.
 *
 * Not served: OpenJ9 and native images, which export none of HotSpot's tables.
 */
#include <algorithm>
#include <atomic>
#include <csignal>

#include "engine/paced.h"
#include "engine/pressure.h"
#include "runtimes/adapter.h"
#include "runtimes/aftermath.h"
#include "runtimes/hotspot_options.h"
#include "runtimes/left_out.h"
#include "system/attributes.h"
#include "system/memory_file.h"
#include "system/os.h"
#include "system/procfs.h"

namespace memlimit::runtimes {
namespace {

using aftermath::CollectorTime;

/* The few slots of JNI's and JVMTI's tables that are called. The specifications fix the place of each, and new functions
 * are added behind the last; so the JDK's headers are not needed. */
struct JavaVm;
struct InvokeTable {
  void* reserved[3];
  int (*destroy)(JavaVm*);
  int (*attach)(JavaVm*, void** env, void* args);
  int (*detach)(JavaVm*);
  int (*get_env)(JavaVm*, void** env, int version);
  int (*attach_as_daemon)(JavaVm*, void** env, void* args);
};
struct JavaVm {
  const InvokeTable* functions;
};
struct AttachArgs {
  int version;
  const char* name;
  void* group;
};
struct ToolInterface;
using ToolFunction = int (*)(ToolInterface*);
struct ToolInterface {
  const ToolFunction* functions;
};

constexpr int kJniVersion = 0x00010002;
constexpr int kToolVersion = 0x30010200; /* JVMTI 1.2 */
/* "Function 108" of the specification, which counts from 1. */
constexpr size_t kForceGarbageCollection = 107;
constexpr size_t kDisposeEnvironment = 126;

struct Functions {
  int (*created_vms)(JavaVm**, int capacity, int* count);
  void (*collect)();
  int64_t (*total_memory)();
};
constinit Functions jvm{};
constinit HotspotOptions options{};

/* JDK 21 announces a VM when it is complete (JDK-8308341), as do those of 17 and 11 that were made after it; older ones do
 * when they begin to make it. These threads come last. */
constinit bool announces_complete = false;
constexpr const char* kLateThreads[] = {"Notification Th", "Common-Cleaner", nullptr};

/* What the VM turned out to be; written by the service thread or who stands in for it, before `settled`. */
enum class Collector : uint8_t {
  kOther,
  kNone,            /* Epsilon */
  kShrinks,         /* Serial, G1: by a full collection */
  kKeeps,           /* Parallel: has a policy of its own, that gives back little */
  kHasSoftMaximum,  /* Shenandoah */
  kHeapInMemoryFile /* ZGC; it has the maximum, too */
};
constinit std::atomic<bool> settled{false};
constinit int settled_pid = 0;
constinit Collector collector = Collector::kOther;
constinit bool is_forced = false;           /* by JVMTI */
constinit bool collects_afterwards = false; /* see kAftermathNs */
constinit bool is_refused =
    false; /* explicit collections are disabled, and nobody has named the adapter */
constinit std::atomic<uint64_t>* soft_maximum = nullptr;
constinit uint64_t largest_heap_bytes = 0;
constinit MemoryFile heap_file{};

/* Of the limit: what a heap with a soft maximum may take. The rest is for what the VM has beside it, and for growth while a
 * concurrent collection runs. Measured, ZGC with a third of it alive in a group of 420 MiB: peak 184 MiB at 70 %. */
constexpr int64_t kSoftMaximumPercent = 70;

bool attach(const ElfImage& image) noexcept {
  Functions found{};
  HotspotTables tables;
  // What 14 brought: no older one was tried.
  const bool is_known = image.symbol("JVM_IsRecord") != nullptr;
  if (!is_known || !image.find("JNI_GetCreatedJavaVMs", &found.created_vms) ||
      !image.find("JVM_GC", &found.collect) ||
      !image.find("JVM_TotalMemory", &found.total_memory) || !read_tables(image, &tables) ||
      !options.open(tables)) {
    return false;
  }
  announces_complete = image.symbol("JVM_VirtualThreadStart") != nullptr;
  jvm = found;
  return true;
}

/* The VM, once it is complete and until it is destroyed. */
JavaVm* complete_vm() noexcept {
  JavaVm* vm = nullptr;
  int count = 0;
  if (jvm.created_vms(&vm, 1, &count) != 0 || count != 1) return nullptr;
  static constinit std::atomic<bool> seen{false};
  if (announces_complete || seen.load(std::memory_order_relaxed)) return vm;
  if (!procfs::has_thread_named(kLateThreads)) return nullptr;
  seen.store(true, std::memory_order_relaxed);
  return vm;
}

Collector find_collector() noexcept {
  if (options.is_on("UseZGC")) return Collector::kHeapInMemoryFile;
  if (options.is_on("UseShenandoahGC")) return Collector::kHasSoftMaximum;
  if (options.is_on("UseEpsilonGC")) return Collector::kNone;
  if (options.is_on("UseParallelGC")) return Collector::kKeeps;
  if (options.is_on("UseG1GC") || options.is_on("UseSerialGC")) return Collector::kShrinks;
  return Collector::kOther;
}

bool has_soft_maximum() noexcept {
  return collector == Collector::kHasSoftMaximum || collector == Collector::kHeapInMemoryFile;
}

/* Any thread. Whoever finds that the limit is another one meanwhile sets it again. */
void follow_limit() noexcept {
  if (!settled.load(std::memory_order_acquire) || soft_maximum == nullptr) return;
  for (;;) {
    const int64_t limit = pressure::limit_bytes();
    const auto share = static_cast<uint64_t>(limit / 100 * kSoftMaximumPercent);
    soft_maximum->store(limit > 0 ? std::min(share, largest_heap_bytes) : largest_heap_bytes,
                        std::memory_order_seq_cst);
    if (pressure::limit_bytes() == limit) return;
  }
}

void settle() noexcept {
  collector = find_collector();
  const bool disabled = options.is_on("DisableExplicitGC");
  is_forced = disabled && is_named(kJvm);
  collects_afterwards = has_soft_maximum() || options.is_on("UseG1GC");
  is_refused = disabled && !is_forced;
  if (is_refused) leave_out(kJvm, left_out::Why::kCollectionsDisabled);
  if (has_soft_maximum() && !options.is_users("SoftMaxHeapSize")) {
    static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t));
    soft_maximum = static_cast<std::atomic<uint64_t>*>(options.find("SoftMaxHeapSize"));
    largest_heap_bytes = options.size_of("MaxHeapSize");
  }
  if (collector == Collector::kHeapInMemoryFile && heap_file.find("java_heap")) {
    paced::set_heap_file(&heap_file);
  }
  settled_pid = os::process_id();
  settled.store(true, std::memory_order_release);
  follow_limit();
}

void notice() noexcept {
  if (!settled.load(std::memory_order_relaxed) && complete_vm() != nullptr) settle();
}

/* The VM has just unblocked what it needs on its threads. Faults it must have: it makes them on purpose. Those by which it
 * is told to end are for threads of the program. */
void block_signals_to_end() noexcept {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

/* How much of a heap may be free after a full collection, in percent of it; the VM's default is 40 to 70. At 70 a heap keeps
 * 3.3 times what is alive, and one that is over its limit may have given back nothing. */
constexpr uint64_t kLeastFreePercent = 10;
constexpr uint64_t kMostFreePercent = 25;

/* While it lives, these hold instead of the VM's own, where collections shrink the heap by them. Measured, a Parallel heap of
 * 366 MiB: 390 when it is collected, 428 when these hold, too. Both may be changed at any time, as its management interface does. */
class TighterHeap {
 public:
  TighterHeap() noexcept {
    if (collector != Collector::kShrinks) return;
    least_.set(kLeastFreePercent);
    most_.set(kMostFreePercent);
  }
  ~TighterHeap() {
    most_.put_back();
    least_.put_back();
  }
  TighterHeap(const TighterHeap&) = delete;
  TighterHeap& operator=(const TighterHeap&) = delete;

 private:
  class Option {
   public:
    explicit Option(const char* name) noexcept {
      if (!options.is_users(name)) value_ = static_cast<std::atomic<uint64_t>*>(options.find(name));
    }
    void set(uint64_t value) noexcept {
      if (value_ == nullptr) return;
      ours_ = value;
      before_ = value_->exchange(value, std::memory_order_seq_cst);
    }
    void put_back() noexcept {
      if (ours_ != 0) value_->compare_exchange_strong(ours_, before_);
    }

   private:
    std::atomic<uint64_t>* value_ = nullptr;
    uint64_t ours_ = 0, before_ = 0;
  };
  Option least_{"MinHeapFreeRatio"};
  Option most_{"MaxHeapFreeRatio"};
};

/* By JVMTI. It answers that it is the wrong time while the VM ends. */
bool force(JavaVm* vm) noexcept {
  void* env = nullptr;
  if (vm->functions->get_env(vm, &env, kToolVersion) != 0 || env == nullptr) return false;
  auto* const tools = static_cast<ToolInterface*>(env);
  const bool done = tools->functions[kForceGarbageCollection](tools) == 0;
  tools->functions[kDisposeEnvironment](tools);
  return done;
}

bool collect(int64_t* released_bytes) noexcept {
  JavaVm* const vm = complete_vm();
  if (vm == nullptr) return false;
  void* env = nullptr;
  AttachArgs args{kJniVersion, "memlimit", nullptr};
  if (vm->functions->attach_as_daemon(vm, &env, &args) != 0) return false;
  block_signals_to_end();
  bool done = true;
  const int64_t total_before = jvm.total_memory();
  {
    const TighterHeap tighter;
    if (is_forced) {
      done = force(vm);
    } else {
      jvm.collect();
    }
  }
  *released_bytes = std::max<int64_t>(total_before - jvm.total_memory(), 0);
  vm->functions->detach(vm);
  return done;
}

constexpr const char* kCollectorThreads[] = {
    "GC Thread#", "G1 Conc#", "G1 Main Marker", "Shenandoah ", "ZWorker", "ZDriver", nullptr};

CollectorTime collector_time() noexcept {
  return {os::monotonic_ns(), procfs::cpu_ns_of_threads_named(kCollectorThreads)};
}

/* When the last collection was over, or was found to need none. On the service thread. */
constinit CollectorTime last_collected{};

/* A collector that has a soft maximum and is at it all the time is not asked for a collection on top, which would make the
 * heap small and the program map all of it again: measured under Shenandoah, 81 MiB alive at a limit of 243, 2.9 times the CPU time
 * with and 1.6 without, peaks of 328 and 353 MiB. It is looked at this often, long enough to tell. */
constexpr int64_t kOwnPaceNs = 250'000'000;

/* While the world stands still, what the process uses are the collector's threads. Beside the program they are told by their
 * names. */
Outcome reclaim(const Work& work) {
  Outcome outcome;
  notice();
  if (!settled.load(std::memory_order_acquire) || settled_pid != os::process_id()) return outcome;
  if (is_refused || collector == Collector::kNone) return outcome;
  const bool paces_itself = has_soft_maximum();
  if (paces_itself) outcome.rest_ns = kOwnPaceNs;
  const CollectorTime begin = collects_afterwards ? collector_time() : CollectorTime{};
  if (paces_itself && !work.everything && aftermath::is_at_it(last_collected, begin)) {
    last_collected = begin;
    outcome.started = true;
    return outcome;
  }
  const int64_t process_before_ns = os::process_cpu_ns();
  const int64_t thread_before_ns = os::thread_cpu_ns();
  outcome.ran = collect(&outcome.released_bytes);
  outcome.parallel_cpu_ns =
      (os::process_cpu_ns() - process_before_ns) - (os::thread_cpu_ns() - thread_before_ns);
  if (collects_afterwards) {
    const CollectorTime end = collector_time();
    if (paces_itself) {
      outcome.parallel_cpu_ns =
          aftermath::concurrent_ns(outcome.parallel_cpu_ns, end.cpu_since_ns(begin));
    }
    outcome.parallel_cpu_ns += aftermath::charge_ns(last_collected, begin);
    last_collected = end;
  }
  // Direct buffers, Deflaters and their like are freed by a thread that hears of it afterwards.
  outcome.frees_follow = outcome.ran;
  return outcome;
}

/* A child has no VM to work with: settled_pid tells. */
MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {}

}  // namespace

constinit const Adapter kJvm{.name = "jvm",
                             .landmark = "JNI_GetCreatedJavaVMs",
                             .attach = attach,
                             .ask = nullptr,
                             .reclaim = reclaim,
                             .reset_after_fork = reset_after_fork,
                             .help = nullptr,
                             .grows_unseen = true,
                             .notice = notice,
                             .limit_changed = follow_limit};

}  // namespace memlimit::runtimes
