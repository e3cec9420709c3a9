/* Ruby (MRI) 3.0 and later: a full GC, run as a postponed job.
 *
 * Postponed jobs are what Ruby has for signal handlers and profilers: asking for one sets a bit or writes a
 * slot of a fixed table, and sets a flag, from any native thread of Ruby's. The job runs where the
 * interpreter checks for interrupts, with its lock held. Asking too early, while the interpreter is being set
 * up, or after its end, crashes.
 *
 * Up to 3.2 libruby exports the pointer to the interpreter, which is null before and after; the last of the
 * built-in exception classes exists when it is ready. From 3.3 on nothing that is exported tells. So the
 * first extension that the interpreter loads (enc/encdb.so, before the program) is taken as the moment to
 * make ready: dlopen is then called with the lock held, where an extension's own start would run next. There
 * the job gets its place in the table, and a function is left that notes the end, before finalisers run.
 */
#include <atomic>

#include "runtimes/adapter.h"
#include "system/attributes.h"

namespace memlimit::runtimes {
namespace {

using Value = uintptr_t; /* VALUE */

constexpr Value kFalse = 0; /* Qfalse, in every version */

/* POSTPONED_JOB_HANDLE_INVALID */
constexpr unsigned kNoHandle = UINT32_MAX;

/* A page of Ruby's heap gives a slot of so many bytes for each object. */
constexpr int64_t kSlotBytes = 40;

using Job = void (*)(void*);

struct Functions {
  int (*is_ruby_thread)();
  Value (*gc_enable)();
  Value (*gc_disable)();
  Value (*gc_start)();
  size_t (*gc_stat)(Value key);
  Value (*id_to_symbol)(Value id);
  Value (*intern)(const char* name);
  const Value* last_builtin; /* an exception class that is defined late */
  /* up to 3.2 */
  int (*register_job)(unsigned flags, Job job, void* arg);
  void* const* current_vm; /* the interpreter, while there is one */
  /* 3.3 and later */
  unsigned (*preregister)(unsigned flags, Job job, void* arg);
  void (*trigger)(unsigned handle);
  int (*has_lock)();
  void (*set_end_function)(void (*function)(Value), Value arg);
};
constinit Functions ruby{};
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> outstanding_ns{0};

/* How far an interpreter of 3.3 and later is. The child of fork has it as its parent did. */
enum class Phase : uint8_t { kUnknown, kPreparing, kReady, kEnding };
constinit std::atomic<Phase> phase{Phase::kUnknown};
constinit unsigned job_handle = kNoHandle; /* written before kReady */

bool can_ask(const Functions& found) noexcept {
  if (found.current_vm != nullptr) return found.register_job != nullptr;
  return found.preregister != nullptr && found.trigger != nullptr && found.has_lock != nullptr &&
         found.set_end_function != nullptr;
}

bool attach(const ElfImage& image) noexcept {
  Functions found{};
  found.current_vm = static_cast<void* const*>(image.symbol("ruby_current_vm_ptr"));
  found.last_builtin = static_cast<const Value*>(image.symbol("rb_eNoMatchingPatternKeyError"));
  if (found.last_builtin == nullptr) {
    found.last_builtin = static_cast<const Value*>(image.symbol("rb_eNoMatchingPatternError"));
  }
  image.find("rb_postponed_job_register_one", &found.register_job);
  image.find("rb_postponed_job_preregister", &found.preregister);
  image.find("rb_postponed_job_trigger", &found.trigger);
  image.find("ruby_thread_has_gvl_p", &found.has_lock);
  image.find("rb_set_end_proc", &found.set_end_function);
  image.find("rb_gc_stat", &found.gc_stat);
  image.find("rb_id2sym", &found.id_to_symbol);
  image.find("rb_intern", &found.intern);
  if (!can_ask(found) || found.last_builtin == nullptr ||
      !image.find("ruby_native_thread_p", &found.is_ruby_thread) ||
      !image.find("rb_gc_enable", &found.gc_enable) ||
      !image.find("rb_gc_disable", &found.gc_disable) ||
      !image.find("rb_gc_start", &found.gc_start)) {
    return false;
  }
  ruby = found;
  return true;
}

bool has_all_classes() noexcept {
  return *static_cast<const volatile Value*>(ruby.last_builtin) != 0;
}

bool is_ready() noexcept {
  if (ruby.current_vm == nullptr) return phase.load(std::memory_order_acquire) == Phase::kReady;
  return *static_cast<void* const volatile*>(ruby.current_vm) != nullptr && has_all_classes();
}

int64_t objects_freed() {
  if (ruby.gc_stat == nullptr || ruby.id_to_symbol == nullptr || ruby.intern == nullptr) return 0;
  return static_cast<int64_t>(ruby.gc_stat(ruby.id_to_symbol(ruby.intern("total_freed_objects"))));
}

Outcome reclaim(const Work&) {
  Outcome outcome;
  if (!is_ready()) return outcome;
  const int64_t before = objects_freed();
  // rb_gc_start() does nothing while the program has the collector disabled.
  const Value was_disabled = ruby.gc_enable();
  ruby.gc_start();
  if (was_disabled != kFalse) ruby.gc_disable();
  outcome.recycled_bytes = (objects_freed() - before) * kSlotBytes;
  outcome.ran = true;
  return outcome;
}

void on_job(void*) {
  outstanding_ns.store(0, std::memory_order_relaxed);
  arrive(kRuby);
}

/* After the program's own at_exit blocks; finalisers follow, and then the interpreter is taken apart. */
void on_end(Value) { phase.store(Phase::kEnding, std::memory_order_relaxed); }

/* May run the collector and raise what Ruby raises, as any call from an extension. */
void on_dlopen() {
  if (ruby.current_vm != nullptr || !has_all_classes()) return;
  if (ruby.is_ruby_thread() == 0 || ruby.has_lock() == 0) return;
  Phase before = Phase::kUnknown;
  if (!phase.compare_exchange_strong(before, Phase::kPreparing, std::memory_order_relaxed)) return;
  job_handle = ruby.preregister(0, on_job, nullptr);
  if (job_handle == kNoHandle) return; /* the table is full: it never is ready */
  ruby.set_end_function(on_end, kFalse);
  phase.store(Phase::kReady, std::memory_order_release);
}

Asked ask(int64_t now_ns) noexcept {
  if (!is_ready()) return Asked::kNotNow;
  if (ruby.is_ruby_thread() == 0) return Asked::kNotMine;
  const int64_t since_ns = outstanding_ns.load(std::memory_order_relaxed);
  if (since_ns != 0 && now_ns - since_ns < kRequestExpiresNs) return Asked::kNotNow;
  if (ruby.current_vm == nullptr) {
    ruby.trigger(job_handle);
  } else if (ruby.register_job(0, on_job, nullptr) == 0) {
    return Asked::kNotNow;
  }
  outstanding_ns.store(now_ns, std::memory_order_relaxed);
  return Asked::kAsked;
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  outstanding_ns.store(0, std::memory_order_relaxed);
}

}  // namespace

constinit const Adapter kRuby{.name = "ruby",
                              .landmark = "ruby_native_thread_p",
                              .attach = attach,
                              .ask = ask,
                              .reclaim = reclaim,
                              .reset_after_fork = reset_after_fork,
                              .help = nullptr,
                              .on_dlopen = on_dlopen};

}  // namespace memlimit::runtimes
