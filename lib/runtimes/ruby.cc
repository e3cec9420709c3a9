/* Ruby (MRI) 3.0 and later: a full GC, run as a postponed job.
 *
 * Postponed jobs are what Ruby has for signal handlers and profilers: registering one writes a slot of a
 * fixed table and sets a flag, from any native thread of Ruby's. The job runs where the interpreter
 * checks for interrupts, with its lock held. Registering too early, while the interpreter is being set
 * up, crashes: it is ready when the last of its built-in exception classes exists.
 */
#include <atomic>

#include "runtimes/adapter.h"
#include "system/attributes.h"

namespace memlimit::runtimes {
namespace {

using Value = uintptr_t; /* VALUE */

constexpr Value kFalse = 0; /* Qfalse, in every version */

/* A page of Ruby's heap gives a slot of so many bytes for each object. */
constexpr int64_t kSlotBytes = 40;

using Job = void (*)(void*);

struct Functions {
  int (*register_job)(unsigned flags, Job job, void* arg);
  unsigned (*preregister)(unsigned flags, Job job, void* arg);
  void (*trigger)(unsigned handle);
  int (*is_ruby_thread)();
  Value (*gc_enable)();
  Value (*gc_disable)();
  Value (*gc_start)();
  size_t (*gc_stat)(Value key);
  Value (*id_to_symbol)(Value id);
  Value (*intern)(const char* name);
  void* const* current_vm;   /* the interpreter, once there is one */
  const Value* last_builtin; /* an exception class that is defined late */
};
constinit Functions ruby{};
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> outstanding_ns{0};
constinit MEMLIMIT_FORK_DATA std::atomic<unsigned> job_handle{UINT32_MAX};

bool attach(const ElfImage& image) noexcept {
  Functions found{};
  found.current_vm = static_cast<void* const*>(image.symbol("ruby_current_vm_ptr"));
  found.last_builtin = static_cast<const Value*>(image.symbol("rb_eNoMatchingPatternKeyError"));
  if (found.last_builtin == nullptr) {
    found.last_builtin = static_cast<const Value*>(image.symbol("rb_eNoMatchingPatternError"));
  }
  image.find("rb_postponed_job_register_one", &found.register_job);
  if (image.find("rb_postponed_job_preregister", &found.preregister)) {
    image.find("rb_postponed_job_trigger", &found.trigger);
  }
  const bool can_ask = found.trigger != nullptr || found.register_job != nullptr;
  image.find("rb_gc_stat", &found.gc_stat);
  image.find("rb_id2sym", &found.id_to_symbol);
  image.find("rb_intern", &found.intern);
  if (!can_ask || found.current_vm == nullptr || found.last_builtin == nullptr ||
      !image.find("ruby_native_thread_p", &found.is_ruby_thread) ||
      !image.find("rb_gc_enable", &found.gc_enable) ||
      !image.find("rb_gc_disable", &found.gc_disable) ||
      !image.find("rb_gc_start", &found.gc_start)) {
    return false;
  }
  ruby = found;
  return true;
}

bool is_ready() noexcept {
  return *static_cast<void* const volatile*>(ruby.current_vm) != nullptr &&
         *static_cast<const volatile Value*>(ruby.last_builtin) != 0;
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

Asked ask(int64_t now_ns) noexcept {
  if (!is_ready()) return Asked::kNotNow;
  if (ruby.is_ruby_thread() == 0) return Asked::kNotMine;
  const int64_t since_ns = outstanding_ns.load(std::memory_order_relaxed);
  if (since_ns != 0 && now_ns - since_ns < kRequestExpiresNs) return Asked::kNotNow;
  if (ruby.trigger != nullptr) {
    unsigned handle = job_handle.load(std::memory_order_relaxed);
    if (handle == UINT32_MAX) {
      handle = ruby.preregister(0, on_job, nullptr);
      if (handle == UINT32_MAX) return Asked::kNotNow;
      job_handle.store(handle, std::memory_order_relaxed);
    }
    ruby.trigger(handle);
  } else if (ruby.register_job(0, on_job, nullptr) == 0) {
    return Asked::kNotNow;
  }
  outstanding_ns.store(now_ns, std::memory_order_relaxed);
  return Asked::kAsked;
}

MEMLIMIT_FORK_CODE void reset_after_fork() noexcept {
  outstanding_ns.store(0, std::memory_order_relaxed);
}

}  // namespace

constinit const Adapter kRuby{"ruby",  "ruby_current_vm_ptr", attach, ask,
                              reclaim, reset_after_fork,      nullptr};

}  // namespace memlimit::runtimes
