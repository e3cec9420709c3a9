/* PHP 8.2 and 8.4, builds without thread safety: a collection of cycles, run where PHP looks for signals and timeouts.
 *
 * A byte of the engine's globals says that something is to be looked at. It is made for signal handlers and timers, so
 * it may be set at any moment and from any thread: a look more finds nothing to do. The virtual machine, or what opcache
 * has compiled, then calls zend_interrupt_function between two instructions, on PHP's own thread, where the program's
 * signal handlers run, too. Whoever had that pointer before is called first: with an exception of ours pending it would
 * drop a signal.
 *
 * Nothing is done while an exception is pending: destructors would lose it. Between two requests PHP has no safe point.
 * Not served: builds with thread safety, whose globals are each thread's own, and programs that opcache compiles function by
 * function: there PHP's own interrupts go wrong. Measured without this library, PHP 8.2, signals of pcntl every 0.3 ms: fibers
 * that are resumed twice, and other results.
 */
#include <atomic>
#include <csetjmp>
#include <iterator>

#include "engine/look.h"
#include "runtimes/adapter.h"
#include "runtimes/php_layout.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::runtimes {
namespace {

/* zend_interrupt_function; its argument is the frame, which is only passed on. */
using Interrupt = void (*)(void* frame);

/* zend_post_startup_cb */
using Startup = int (*)();

/* What PHP maps at a time. */
constexpr int64_t kChunkBytes = int64_t{2} << 20;

struct Functions {
  char* executor_globals;
  const char* compiler_globals;
  Interrupt* interrupt;   /* zend_interrupt_function */
  int (**collect)();      /* profilers put theirs in its place */
  bool (*is_protected)(); /* after a fatal error nothing may be collected */
  size_t (*memory_usage)(bool of_system);
  void* (*heap)();
  size_t (*return_idle)(void* heap); /* zend_mm_gc */
  const char* (*engine_version)();
  const char* (*setting)(const char* name, size_t length, int original); /* zend_ini_string */
  int (*is_initialized)();
  void (*bailout)(const char* file, uint32_t line); /* does not return */
};
constinit Functions php_engine{};

/* What PHP called once its modules had started, before the adapter did. */
constinit Startup next_after_startup = nullptr;

/* Set once it is settled that this PHP is served, and once its globals look like what is known of it. */
constinit std::atomic<const php::Layout*> known{nullptr};
constinit std::atomic<const php::Layout*> recognised{nullptr};
constinit std::atomic<left_out::Why> refused{left_out::Why::kNone};

/* When PHP was asked for what has not come yet; 0: nothing is outstanding. */
constinit std::atomic<int64_t> asked_ns{0};

/* The figures are to be looked at. */
constinit std::atomic<bool> look_wanted{false};

/* PHP's thread only. The program's destructors run meanwhile, and the virtual machine looks for interrupts in them. */
constinit bool reclaiming = false;
constinit bool ends_request = false;

template <typename T>
T* in_executor(uint16_t offset) noexcept {
  return reinterpret_cast<T*>(php_engine.executor_globals + offset);
}

/* Whoever puts a function of its own in the pointer's place calls what it found there, ours among them. When it does not,
 * another entry of ours goes on top: each has its own predecessor, so none is called by way of itself. */
constexpr size_t kEntries = 4;
constinit std::atomic<Interrupt> previous[kEntries]{};
constinit std::atomic<size_t> used_entries{0};
constinit std::atomic<bool> installing{false};

void come();

template <size_t kIndex>
void on_interrupt(void* frame) {
  const Interrupt before = previous[kIndex].load(std::memory_order_acquire);
  if (before != nullptr) before(frame);
  come();
}

constexpr Interrupt kEntry[kEntries] = {on_interrupt<0>, on_interrupt<1>, on_interrupt<2>,
                                        on_interrupt<3>};

bool is_ours(Interrupt function) noexcept {
  for (const Interrupt entry : kEntry) {
    if (function == entry) return true;
  }
  return false;
}

/* The entry whose predecessor this is; kEntries: none. */
size_t entry_above(Interrupt function, size_t used) noexcept {
  for (size_t i = 0; i < used; ++i) {
    if (previous[i].load(std::memory_order_relaxed) == function) return i;
  }
  return kEntries;
}

/* Puts an entry of ours in front, unless one is there. False: not now. */
bool put_in_front() noexcept {
  const std::atomic_ref<Interrupt> pointer(*php_engine.interrupt);
  Interrupt before = pointer.load(std::memory_order_acquire);
  if (is_ours(before)) return true;
  if (installing.exchange(true, std::memory_order_acquire)) return false;
  const size_t used = used_entries.load(std::memory_order_relaxed);
  // PHP has ended and begun anew, and with it whoever came before the adapter.
  size_t index = before == nullptr ? 0 : entry_above(before, used);
  if (index == kEntries) index = used;
  bool done = false;
  if (index < kEntries) {
    previous[index].store(before, std::memory_order_release);
    used_entries.store(index + 1, std::memory_order_relaxed);
    done = pointer.compare_exchange_strong(before, kEntry[index], std::memory_order_acq_rel);
  }
  installing.store(false, std::memory_order_release);
  return done;
}

/* Whether an interrupt will reach the adapter: by its entry in front, or by one that somebody else has found there and
 * calls, as it is taken for granted until a request has gone unanswered. */
bool is_reached(bool unanswered) noexcept {
  const Interrupt front =
      std::atomic_ref<Interrupt>(*php_engine.interrupt).load(std::memory_order_acquire);
  if (is_ours(front)) return true;
  const size_t used = used_entries.load(std::memory_order_relaxed);
  return !unanswered && used > 0 && front != nullptr && entry_above(front, used) == kEntries;
}

void refuse(left_out::Why why) noexcept {
  if (refused.exchange(why, std::memory_order_relaxed) == left_out::Why::kNone) request_help(kPhp);
}

bool is_refused() noexcept {
  return refused.load(std::memory_order_relaxed) != left_out::Why::kNone;
}

/* A setting as text; nullptr: there is none of the name. */
template <size_t kSize>
const char* setting(const char (&name)[kSize]) noexcept {
  return php_engine.setting(name, kSize - 1, 0);
}

/* On PHP's thread, whose settings they are: whether this PHP is served. */
bool settle() noexcept {
  const char* const version = php_engine.engine_version();
  if (version == nullptr) return false;
  const php::Layout* const layout = php::layout_of(version);
  if (layout == nullptr) {
    refuse(left_out::Why::kUnknownVersion);
  } else if (php::compiles_functions(setting("opcache.jit_buffer_size"), setting("opcache.jit"))) {
    refuse(left_out::Why::kCompiledFunctions);
  } else {
    known.store(layout, std::memory_order_release);
    return true;
  }
  return false;
}

/* PHP has started, and is one that is served; nullptr: not yet, or never. */
const php::Layout* ready() noexcept {
  const php::Layout* layout = recognised.load(std::memory_order_acquire);
  // Before that the text of the version may be on its way to another place.
  if (php_engine.is_initialized() == 0) return nullptr;
  if (layout != nullptr) return layout;
  layout = known.load(std::memory_order_acquire);
  if (layout == nullptr) {
    const bool first_thread = os::thread_id() == os::process_id();
    if (is_refused() || !first_thread || !settle()) return nullptr;
    layout = known.load(std::memory_order_acquire);
  }
  if (!php::fits(*layout, php_engine.executor_globals, php_engine.compiler_globals)) return nullptr;
  recognised.store(layout, std::memory_order_release);
  return layout;
}

bool in_request(const php::Layout& layout) noexcept {
  return std::atomic_ref<bool>(*in_executor<bool>(layout.active)).load(std::memory_order_relaxed);
}

/* On PHP's thread, when all modules have started: the first of them to change zend_interrupt_function have done so, and
 * opcache has not yet compiled into its code whom it calls. */
int after_startup() {
  if (settle()) put_in_front();
  return next_after_startup != nullptr ? next_after_startup() : 0;
}

bool attach(const ElfImage& image) noexcept {
  Functions found{};
  found.executor_globals = static_cast<char*>(image.symbol("executor_globals"));
  found.compiler_globals = static_cast<const char*>(image.symbol("compiler_globals"));
  found.interrupt = static_cast<Interrupt*>(image.symbol("zend_interrupt_function"));
  found.collect = static_cast<int (**)()>(image.symbol("gc_collect_cycles"));
  if (found.executor_globals == nullptr || found.compiler_globals == nullptr ||
      found.interrupt == nullptr || found.collect == nullptr ||
      !image.find("gc_protected", &found.is_protected) ||
      !image.find("zend_memory_usage", &found.memory_usage) ||
      !image.find("zend_mm_get_heap", &found.heap) ||
      !image.find("zend_mm_gc", &found.return_idle) ||
      !image.find("get_zend_version", &found.engine_version) ||
      !image.find("zend_ini_string", &found.setting) ||
      !image.find("php_get_module_initialized", &found.is_initialized) ||
      !image.find("_zend_bailout", &found.bailout)) {
    return false;
  }
  php_engine = found;
  // Only before main: later PHP's thread may be about to set it as well.
  auto* const startup = static_cast<Startup*>(image.symbol("zend_post_startup_cb"));
  if (startup != nullptr && os::thread_id() == os::process_id()) {
    next_after_startup = *startup;
    *startup = after_startup;
  }
  return true;
}

left_out::Why why_not(const ElfImage& image) noexcept {
  const bool thread_safe = image.symbol("tsrm_get_ls_cache") != nullptr;
  return thread_safe ? left_out::Why::kThreadSafe : left_out::Why::kUnknownVersion;
}

int64_t used_bytes() { return static_cast<int64_t>(php_engine.memory_usage(false)); }

/* A fatal error in a destructor ends the request by a jump to where EG(bailout) says: that is here, so that what the
 * adapter has begun is ended first. True: it jumped. */
bool collect_cycles(const php::Layout& layout) {
  void** const bailout = in_executor<void*>(layout.bailout);
  void* volatile outer = *bailout;
  sigjmp_buf here;
  if (sigsetjmp(here, 0) != 0) {
    *bailout = outer;
    return true;
  }
  *bailout = &here;
  (*php_engine.collect)();
  *bailout = outer;
  return false;
}

Outcome reclaim(const Work& work) {
  Outcome outcome;
  const php::Layout* const layout = recognised.load(std::memory_order_relaxed);
  const int64_t used_before = used_bytes();
  reclaiming = true;
  if (!php_engine.is_protected()) {
    // gc_disable() is about PHP's own collections.
    ends_request = collect_cycles(*layout);
    outcome.ran = true;
  }
  outcome.recycled_bytes = used_before - used_bytes();
  // Giving chunks back costs the page faults of taking them again.
  const bool enough = outcome.recycled_bytes >= work.wanted_bytes && work.level < Level::kCritical;
  const int64_t idle = static_cast<int64_t>(php_engine.memory_usage(true)) - used_bytes();
  if ((!enough || work.everything) && idle >= kChunkBytes) {
    php_engine.return_idle(php_engine.heap());
    outcome.ran = true;
  }
  reclaiming = false;
  return outcome;
}

/* At the safe point. */
void come() {
  const php::Layout* const layout = recognised.load(std::memory_order_acquire);
  if (layout == nullptr || reclaiming) return;
  if (look_wanted.load(std::memory_order_relaxed)) {
    look_wanted.store(false, std::memory_order_relaxed);
    const os::ErrnoGuard errno_guard;
    look::after_allocation(0);
  }
  if (asked_ns.load(std::memory_order_relaxed) == 0) return;
  // Asked for again when the thread next comes by.
  if (*in_executor<void*>(layout->exception) != nullptr || !in_request(*layout)) return;
  asked_ns.store(0, std::memory_order_relaxed);
  arrive(kPhp);
  if (!ends_request) return;
  ends_request = false;
  php_engine.bailout("", 0);
}

void interrupt(const php::Layout& layout) noexcept {
  std::atomic_ref<bool>(*in_executor<bool>(layout.vm_interrupt))
      .store(true, std::memory_order_seq_cst);
}

void visit_soon() noexcept {
  const php::Layout* const layout = ready();
  if (layout == nullptr || !in_request(*layout)) return;
  if (!is_reached(false) && !put_in_front()) return;
  look_wanted.store(true, std::memory_order_relaxed);
  interrupt(*layout);
}

Asked ask(int64_t now_ns) noexcept {
  const php::Layout* const layout = ready();
  if (layout == nullptr) {
    return is_refused() ? Asked::kNotMine : Asked::kNotNow;
  }
  if (!in_request(*layout)) return Asked::kNotNow;
  const int64_t since_ns = asked_ns.load(std::memory_order_relaxed);
  const bool outstanding = since_ns != 0 && now_ns - since_ns < kRequestExpiresNs;
  if (!outstanding) {
    if (!is_reached(since_ns != 0) && !put_in_front()) return Asked::kNotNow;
    asked_ns.store(now_ns, std::memory_order_relaxed);
  }
  // Also when it was asked before: a timeout that came at the same time has the interrupt for itself.
  interrupt(*layout);
  return outstanding ? Asked::kNotNow : Asked::kAsked;
}

void help() noexcept {
  if (is_refused()) leave_out(kPhp, refused.load(std::memory_order_relaxed));
}

/* What was asked for comes in the child as well, and finds no round there. */
MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept {
  // Written only if a thread that is no more was at it.
  if (installing.load(std::memory_order_relaxed)) {
    installing.store(false, std::memory_order_relaxed);
  }
}

}  // namespace

constinit const Adapter kPhp{.name = "php",
                             .landmark = "php_request_startup",
                             .attach = attach,
                             .ask = ask,
                             .reclaim = reclaim,
                             .reset_after_fork = reset_after_fork,
                             .help = help,
                             .why_not = why_not,
                             .visit_soon = visit_soon};

}  // namespace memlimit::runtimes
