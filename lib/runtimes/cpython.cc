/* CPython 3.9 and later: the cyclic garbage collector, run by a pending call.
 *
 * Py_AddPendingCall() may be called from anywhere: it takes one short lock and allocates nothing. The
 * main thread then runs the call between two bytecodes, with the GIL held, where the program's own signal
 * handlers run too; so finalisers run in the thread in which the program expects them.
 *
 * A main thread that waits for a lock comes to it, too: cpython_waits.h. While it is blocked otherwise nothing comes
 * of that. From 3.12 on a call may be left to any thread of the interpreter; that is done where the program has
 * the collector enabled, for then it would run in such threads by itself. Else it takes a thread of our own, in
 * which finalisers run that may not like it (sqlite3's objects refuse): only who names the adapter
 * `cpython-threads` gets that.
 *
 * Not served: builds without a GIL, sub-interpreters, and an interpreter that runs in another thread than the process's first
 * (the request then waits for a main thread that may never run Python).
 */
#include <atomic>
#include <csignal>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/types.h>

#include "engine/allocator.h"
#include "runtimes/adapter.h"
#include "runtimes/cpython_frames.h"
#include "runtimes/cpython_waits.h"
#include "runtimes/generation.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

using Object = void; /* PyObject: looked at through the runtime's functions only */

/* Unreachable objects the collector found, in bytes: a lower guess of what one takes, with its header. */
constexpr int64_t kObjectBytes = 64;

/* As in PY_VERSION_HEX. */
constexpr unsigned long kVersion312 = 0x030c0000;

struct Functions {
  int (*is_initialized)();
  int (*is_finalizing)();
  int (*add_pending_call)(int (*)(void*), void*);
  Object* (*import_module)(const char*);
  Object* (*get_attribute)(Object*, const char*);
  Object* (*type_of)(Object*);
  Object* (*call_function)(Object*, const char*, ...);
  ssize_t (*as_ssize)(Object*);
  void (*decref)(Object*);
  void (*fetch_error)(Object**, Object**, Object**);
  void (*restore_error)(Object*, Object*, Object*);
  Object* builtin_function_type;
  /* whose turn it is */
  void* (*this_interpreter)();
  void* (*main_interpreter)();
  /* 3.10 and later */
  ssize_t (*collect)();
  int (*enable)();
  int (*disable)();
  int (*is_enabled)();
  /* 3.12 and later: flags 0, any thread of the interpreter runs it */
  int (*add_call_anywhere)(void* interpreter, int (*)(void*), void*, int flags);
  /* for threads */
  void* (*this_thread_state)();
  int (*gil_ensure)();
  void (*gil_release)(int state);
};
constinit Functions python{};

/* When the pending call that has not come yet was asked for; 0: none is outstanding. */
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> outstanding_ns{0};

/* Calls of ours in the interpreter's queue, which holds 32 and is the program's, too: while the main thread
 * is blocked they stay there, and more of them would do no more. Two: one may be lost. */
constinit MEMLIMIT_FORK_DATA std::atomic<int> queued_calls{0};
constexpr int kMostQueued = 2;

/* While calls wait that the main thread has not come to for so long, requests are taken to another thread. */
constexpr int64_t kBlockedNs = 100'000'000;

/* Since when it has come to none of those that wait. Counts while there are some. */
constinit std::atomic<int64_t> not_come_since_ns{0};

/* Since when a pending call of ours runs; 0: none does. While one does no other is queued: from 3.13 on the interpreter runs
 * them at its end until there is none (_Py_FinishPendingCalls()), and threads that still run would bring one each time. In the
 * child of fork it is as in the parent. */
constinit std::atomic<int64_t> serving_since_ns{0};

/* When a round asked last. In the child of fork it is as in the parent. */
constinit std::atomic<int64_t> last_asked_ns{0};
constexpr int64_t kLatelyNs = 2'000'000'000;

/* A thread of ours is collecting, or about to. */
constinit MEMLIMIT_FORK_DATA std::atomic<bool> helping{false};

/* At the safe point only, which one thread at a time reaches: the GIL's. */
constinit GenerationChoice choice{};

/* Of builds without a GIL only: any thread may then be anywhere while a call runs, which was never tried. */
constexpr const char kFreeThreadedOnly[] = "_Py_DecRefShared";

bool attach(const ElfImage& image) noexcept {
  if (image.symbol(kFreeThreadedOnly) != nullptr) return false;
  Functions found{};
  const bool complete = image.find("Py_IsInitialized", &found.is_initialized) &&
                        (image.find("Py_IsFinalizing", &found.is_finalizing) ||
                         image.find("_Py_IsFinalizing", &found.is_finalizing)) &&
                        image.find("Py_AddPendingCall", &found.add_pending_call) &&
                        image.find("PyImport_ImportModule", &found.import_module) &&
                        image.find("PyObject_GetAttrString", &found.get_attribute) &&
                        image.find("PyObject_Type", &found.type_of) &&
                        image.find("PyObject_CallFunction", &found.call_function) &&
                        image.find("PyLong_AsSsize_t", &found.as_ssize) &&
                        image.find("Py_DecRef", &found.decref) &&
                        image.find("PyErr_Fetch", &found.fetch_error) &&
                        image.find("PyErr_Restore", &found.restore_error) &&
                        (found.builtin_function_type = image.symbol("PyCFunction_Type")) != nullptr;
  // 3.9 brought the first name. 3.8 answers a pending call with an error, printed on standard error, while
  // the program's atexit functions run; older ones take one before they are ready for it.
  if (!complete || !image.find("PyInterpreterState_Get", &found.this_interpreter) ||
      !image.find("PyInterpreterState_Main", &found.main_interpreter) ||
      !image.find("PyGILState_GetThisThreadState", &found.this_thread_state) ||
      !image.find("PyGILState_Ensure", &found.gil_ensure) ||
      !image.find("PyGILState_Release", &found.gil_release)) {
    return false;
  }
  image.find("PyGC_IsEnabled", &found.is_enabled);
  const auto* const version = static_cast<const unsigned long*>(image.symbol("Py_Version"));
  if (version != nullptr && *version >= kVersion312 && found.is_enabled != nullptr) {
    image.find("_PyEval_AddPendingCall", &found.add_call_anywhere);
  }
  if (image.find("PyGC_Collect", &found.collect) && image.find("PyGC_Enable", &found.enable)) {
    image.find("PyGC_Disable", &found.disable);
  }
  python = found;
  cpython_waits::watch(image);
  cpython_frames::watch(image);
  return true;
}

/* gc.collect(generation), unless the program has put something else in its place. Objects found
 * unreachable, or -1. */
int64_t collect_generation(int generation) {
  int64_t found = -1;
  Object* const module = python.import_module("gc");
  if (module != nullptr) {
    Object* const function = python.get_attribute(module, "collect");
    if (function != nullptr) {
      Object* const type = python.type_of(function);
      if (type == python.builtin_function_type) {
        Object* const result = python.call_function(function, "i", generation);
        if (result != nullptr) {
          found = python.as_ssize(result);
          python.decref(result);
        }
      }
      if (type != nullptr) python.decref(type);
      python.decref(function);
    }
    python.decref(module);
  }
  return found;
}

/* Everything. PyGC_Collect() does nothing while the program has the collector disabled, so it is enabled
 * for the time of the call; what a finaliser does about that is undone only if it was disabled before. */
int64_t collect_all() {
  if (python.disable == nullptr) return collect_generation(2);
  const bool was_enabled = python.enable() != 0;
  const int64_t found = python.collect();
  if (!was_enabled) python.disable();
  return found;
}

/* What a collection freed, as far as this thread can tell. */
struct Progress {
  int64_t freed_before = allocator().own_net_freed();
  int64_t recycled_bytes = 0;

  int64_t gained() const noexcept {
    const int64_t freed = allocator().own_net_freed() - freed_before;
    return freed > recycled_bytes ? freed : recycled_bytes;
  }
};

Outcome reclaim(const Work& work) {
  Outcome outcome;
  if (python.is_initialized() == 0 || python.is_finalizing() != 0) return outcome;
  if (python.this_interpreter() != python.main_interpreter()) return outcome;
  Object *type, *value, *traceback;
  python.fetch_error(&type, &value, &traceback);
  Progress progress;
  bool enough = false;
  if (choice.young_first()) {
    const int64_t found = collect_generation(1);
    progress.recycled_bytes = (found > 0 ? found : 0) * kObjectBytes;
    enough = choice.young_done(progress.gained(), work.wanted_bytes);
    outcome.ran = found >= 0;
  }
  if (!enough) {
    const int64_t found = collect_all();
    progress.recycled_bytes += (found > 0 ? found : 0) * kObjectBytes;
    outcome.ran = outcome.ran || found >= 0;
  }
  outcome.recycled_bytes = progress.recycled_bytes;
  // Drops what a failed import or call may have left, too.
  python.restore_error(type, value, traceback);
  return outcome;
}

bool on_main_thread() noexcept { return os::thread_id() == os::process_id(); }

bool is_ready() noexcept { return python.is_initialized() != 0 && python.is_finalizing() == 0; }

void come() {
  outstanding_ns.store(0, std::memory_order_relaxed);
  arrive(kCPython);
}

/* Not below none: a call may come after its interpreter was taken for gone. */
void call_left_queue() noexcept {
  not_come_since_ns.store(os::monotonic_ns(), std::memory_order_relaxed);
  int queued = queued_calls.load(std::memory_order_relaxed);
  while (queued > 0 &&
         !queued_calls.compare_exchange_weak(queued, queued - 1, std::memory_order_relaxed)) {
  }
}

int on_pending(void*) {
  call_left_queue();
  serving_since_ns.store(os::monotonic_ns(), std::memory_order_relaxed);
  come();
  serving_since_ns.store(0, std::memory_order_relaxed);
  return 0;
}

/* One that has not come back for long, since it ended its thread, is forgotten. */
bool is_serving(int64_t now_ns) noexcept {
  const int64_t since_ns = serving_since_ns.load(std::memory_order_relaxed);
  return since_ns != 0 && now_ns - since_ns < kRequestExpiresNs;
}

/* The same on whichever thread comes first, unless only the main thread will do. */
int on_pending_anywhere(void*) {
  if (on_main_thread() || python.is_enabled() != 0) return on_pending(nullptr);
  if (python.add_pending_call(on_pending, nullptr) != 0) call_left_queue();
  return 0;
}

bool is_blocked(int64_t now_ns) noexcept {
  return queued_calls.load(std::memory_order_relaxed) > 0 &&
         now_ns - not_come_since_ns.load(std::memory_order_relaxed) >= kBlockedNs;
}

/* False: the queue is full, and the program's own calls are late, too. */
bool queue_call(bool main_thread, int64_t now_ns) noexcept {
  if (queued_calls.load(std::memory_order_relaxed) >= kMostQueued) return true;
  if (queued_calls.fetch_add(1, std::memory_order_relaxed) == 0) {
    not_come_since_ns.store(now_ns, std::memory_order_relaxed);
  }
  const int result =
      !main_thread && python.add_call_anywhere != nullptr
          ? python.add_call_anywhere(python.main_interpreter(), on_pending_anywhere, nullptr, 0)
          : python.add_pending_call(on_pending, nullptr);
  if (result != 0) call_left_queue();
  return result == 0;
}

Asked ask(int64_t now_ns) noexcept {
  const bool main_thread = on_main_thread();
  const bool ready = is_ready();
  // The next interpreter's queue is empty.
  if (!ready) queued_calls.store(0, std::memory_order_relaxed);
  if (!main_thread && python.this_thread_state() == nullptr) return Asked::kNotMine;
  if (!ready) return Asked::kNotNow;
  last_asked_ns.store(now_ns, std::memory_order_relaxed);
  if (!main_thread && may_use_threads() && is_blocked(now_ns)) request_help(kCPython);
  const int64_t since_ns = outstanding_ns.load(std::memory_order_relaxed);
  if (since_ns != 0 && now_ns - since_ns < kRequestExpiresNs) return Asked::kNotNow;
  if (is_serving(now_ns) || !queue_call(main_thread, now_ns)) return Asked::kNotNow;
  outstanding_ns.store(now_ns, std::memory_order_relaxed);
  // Off the main thread: come again, to see whether it was blocked.
  return main_thread ? Asked::kAsked : Asked::kNotNow;
}

/* When the interpreter ends meanwhile, it ends this thread by pthread_exit: nothing here may be noexcept
 * or have a destructor that matters. */
extern "C" void* collect_for_blocked(void*) {
  if (is_ready()) {
    const int state = python.gil_ensure();
    come();
    python.gil_release(state);
  }
  helping.store(false, std::memory_order_release);
  return nullptr;
}

void help() noexcept {
  if (python.add_pending_call == nullptr || helping.exchange(true, std::memory_order_acquire))
    return;
  pthread_attr_t attributes;
  pthread_t thread;
  bool started = false;
  // Signals are blocked here, on the service thread, and so in what it starts.
  if (pthread_attr_init(&attributes) == 0) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    started = pthread_create(&thread, &attributes, collect_for_blocked, nullptr) == 0;
    pthread_attr_destroy(&attributes);
  }
  if (!started) helping.store(false, std::memory_order_release);
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  outstanding_ns.store(0, std::memory_order_relaxed);
  queued_calls.store(0, std::memory_order_relaxed);
  helping.store(false, std::memory_order_relaxed);
}

}  // namespace

bool cpython_waits::call_is_queued() noexcept {
  return queued_calls.load(std::memory_order_relaxed) > 0 && is_ready();
}

bool cpython_waits::asked_lately(int64_t now_ns) noexcept {
  const int64_t asked_ns = last_asked_ns.load(std::memory_order_relaxed);
  return asked_ns != 0 && now_ns - asked_ns < kLatelyNs;
}

/* Not from the adapter's own symbols: it may be off. */
bool warns_of_threads_after_fork() noexcept {
  const auto* const version = static_cast<const unsigned long*>(dlsym(RTLD_DEFAULT, "Py_Version"));
  return version != nullptr && *version >= kVersion312;
}

constinit const Adapter kCPython{"cpython", "Py_AddPendingCall", attach, ask,
                                 reclaim,   reset_after_fork,    help};

}  // namespace memlimit::runtimes
