/* Slots and runs; see hooks.h. The lock guards the table, never a call: a slot that is being called is
 * marked with its thread, and whoever removes it waits for the mark to go. */
#include "engine/hooks.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>

#include <dlfcn.h>
#include <pthread.h>
#if __cpp_exceptions
#include <cxxabi.h>
#include <unwind.h>
#endif

#include "engine/account.h"
#include "engine/allocator.h"
#include "engine/service.h"
#include "engine/thread_state.h"
#include "observe/event_ring.h"
#include "pacing/ranking.h"
#include "system/attributes.h"
#include "system/lock.h"
#include "system/os.h"

namespace memlimit::hooks {
namespace {

constexpr int kContexts = 3;
constexpr uint64_t kIndexBits = 8;
static_assert(kMaxHooks <= 1 << kIndexBits);

/* exit() waits this long for a hook that runs. One that takes longer may wait for the thread that exits. */
constexpr int64_t kEndWaitNs = 1'000'000'000;

struct Slot {
  uint64_t id = 0; /* 0: free. Low bits: index; the rest: a number never used again */
  int context = 0;
  int64_t (*reclaim)(const memlimit_request*, void*) = nullptr;
  void* arg = nullptr;
  char name[sizeof(HookRow::name)] = {};
  Tally tally;
  bool removing = false;
  bool overrun_told = false;
  int running_tid = 0; /* 0: not running */
  int64_t running_since_ns = 0;
  int64_t deadline_ns = 0;
  uint64_t round = 0; /* that it runs for */

  int64_t running_ns(int64_t now_ns) const noexcept {
    return running_tid == 0 ? 0 : std::max<int64_t>(now_ns - running_since_ns, 1);
  }
};

constinit MEMLIMIT_FORK_DATA Lock table_lock{LockRank::kHooks};
constinit Slot slots[kMaxHooks] MEMLIMIT_GUARDED_BY(table_lock){};
constinit MEMLIMIT_FORK_DATA uint64_t next_number MEMLIMIT_GUARDED_BY(table_lock) = 1;
constinit MEMLIMIT_FORK_DATA Sums past_sums
    MEMLIMIT_GUARDED_BY(table_lock){}; /* of removed hooks */
constinit MEMLIMIT_FORK_DATA Level last_level[kContexts] MEMLIMIT_GUARDED_BY(table_lock){};
/* Passes over a context's hooks: what ranking.h calls rounds. A round may pass over them several times. */
constinit MEMLIMIT_FORK_DATA uint64_t turns[kContexts] MEMLIMIT_GUARDED_BY(table_lock){};

constinit MEMLIMIT_FORK_DATA std::atomic<int> counts[kContexts]{};
constinit MEMLIMIT_FORK_DATA std::atomic<bool> ended{false}; /* set under table_lock */
/* Changes whenever a hook ends its run: removal waits on it. */
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> run_ended{0}; /* futex */
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> waiters{0};   /* threads that wait for it */
/* How many fork()s lie between this process and the first. */
constinit MEMLIMIT_FORK_DATA std::atomic<uint32_t> forks{0};
/* Hooks that are running; changes under table_lock. */
constinit MEMLIMIT_FORK_DATA std::atomic<int> running_count{0};
/* The process that added a hook last, or is a fork() of that: in a child made otherwise no hook runs. */
constinit MEMLIMIT_FORK_DATA std::atomic<int> owner_pid{0};

Slot* find(uint64_t id) noexcept MEMLIMIT_REQUIRES(table_lock) {
  if (id == 0) return nullptr;
  const uint64_t index = id & ((1U << kIndexBits) - 1);
  if (index >= kMaxHooks || slots[index].id != id) return nullptr;
  return &slots[index];
}

void release_slot(Slot& slot) noexcept MEMLIMIT_REQUIRES(table_lock) {
  past_sums += slot.tally.sums();
  counts[slot.context].fetch_sub(1, std::memory_order_relaxed);
  slot = Slot{};
  emit(EventKind::kHookRemoved, &slot - slots);
}

/* The hook's own thread is the reliable witness. A hook that has others free for it is believed up to
 * the fall in usage that everybody sees. */
int64_t measure(int64_t own_bytes, int64_t usage_fall_bytes, int64_t claimed_bytes) noexcept {
  return std::max({int64_t{0}, own_bytes, std::min(usage_fall_bytes, claimed_bytes)});
}

#if __cpp_exceptions

/* Where a runtime counts exceptions in flight: __cxa_eh_globals of the Itanium C++ ABI, section 2.2.2. */
struct ExceptionGlobals {
  void* caught;
  unsigned in_flight;
};

/* The program's runtime threw, the one linked in here caught: the first still has an exception in flight, and
 * the second one fewer than none. */
void settle_exception() noexcept {
  auto* const own = reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals());
  if (static_cast<int>(own->in_flight) >= 0) return;
  own->in_flight = 0;
  using GetGlobals = ExceptionGlobals* (*)();
  const auto get = reinterpret_cast<GetGlobals>(dlsym(RTLD_DEFAULT, "__cxa_get_globals"));
  if (get != nullptr && get()->in_flight > 0) --get()->in_flight;
}

/* A program's exception that ends here is carried by the program's copy of the unwinder, which calls back into
 * the copy linked in here; and this one aborts unless it has been used once. Not at the start of the process:
 * a program without hooks never needs that text and its tables. */
void prepare_unwinder() noexcept {
  _Unwind_Backtrace([](_Unwind_Context*, void*) { return _URC_END_OF_STACK; }, nullptr);
}

int64_t call_and_catch(int64_t (*reclaim)(const memlimit_request*, void*),
                       const memlimit_request& request, void* arg) {
  try {
    return reclaim(&request, arg);
  } catch (abi::__forced_unwind&) {
    throw;  // pthread_exit: swallowing it makes glibc abort
  } catch (...) {
  }
  settle_exception();
  return MEMLIMIT_CANNOT_NOW;
}

#else

/* Built without exceptions, and without tables to unwind by (preload/musl): whoever throws finds the end of the stack here,
 * and the program's runtime ends the process, with what it has to say of the exception. */
void prepare_unwinder() noexcept {}

int64_t call_and_catch(int64_t (*reclaim)(const memlimit_request*, void*),
                       const memlimit_request& request, void* arg) {
  return reclaim(&request, arg);
}

#endif

/* A hook that does input or output may not be where its thread is cancelled: the unwinding would go through
 * malloc. The cancellation waits until the thread is back in the program. */
class NoCancellation {
 public:
  NoCancellation() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NoCancellation() { pthread_setcancelstate(before_, nullptr); }
  NoCancellation(const NoCancellation&) = delete;
  NoCancellation& operator=(const NoCancellation&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

int64_t call_guarded(int64_t (*reclaim)(const memlimit_request*, void*),
                     const memlimit_request& request, void* arg) {
  const NoCancellation no_cancellation;
  return call_and_catch(reclaim, request, arg);
}

/* Ends a run however it ended, a thread's cancellation included. */
class Running {
 public:
  explicit Running(uint64_t id) noexcept : id_(id), forks_(forks.load(std::memory_order_relaxed)) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    {
      LockGuard guard(table_lock);
      if (Slot* const slot = find(id_)) {
        // In the child of a fork none runs any more.
        if (slot->running_tid != 0) running_count.fetch_sub(1, std::memory_order_relaxed);
        slot->running_tid = 0;
        if (slot->removing) release_slot(*slot);
      }
    }
    run_ended.fetch_add(1, std::memory_order_seq_cst);
    if (waiters.load(std::memory_order_seq_cst) != 0) os::futex_wake(run_ended, INT32_MAX);
  }
  /* A child made without fork() (a bare clone) is not seen here: the service thread's own loop looks at its
   * process id, and a call on another thread goes on as in the parent. */
  bool forked() const noexcept { return forks.load(std::memory_order_relaxed) != forks_; }

 private:
  uint64_t id_;
  uint32_t forks_;
};

void end_at_exit() { end(); }

/* exit() runs the handlers in reverse order, those of destructors among them: objects that exist when a hook is
 * added are destroyed after end(). Not for ever, since a program may add and remove hooks all its life and each
 * handler takes memory; nor in a hook, which may run in an allocation of atexit() itself. */
void end_before_destructors() noexcept {
  static constinit std::atomic<int> left{kMaxHooks};
  if (ReentryGuard::inside() || left.fetch_sub(1, std::memory_order_relaxed) <= 0) return;
  atexit(end_at_exit);
}

/* A hook that runs on another thread than this one. */
bool any_runs_elsewhere(int self) noexcept {
  LockGuard guard(table_lock);
  return std::any_of(std::begin(slots), std::end(slots),
                     [self](const Slot& slot) MEMLIMIT_REQUIRES(table_lock) {
                       return slot.running_tid != 0 && slot.running_tid != self;
                     });
}

/* What to call; copied out of the table under the lock. */
struct Call {
  uint64_t id;
  int64_t (*reclaim)(const memlimit_request*, void*);
  void* arg;
};

int64_t headroom_of(const Pass& pass) noexcept { return pass.limit_bytes - pass.usage_bytes; }

size_t plan(int context, const Pass& pass, uint64_t* ids, uint64_t* turn) noexcept {
  LockGuard guard(table_lock);
  *turn = ++turns[context];
  const bool level_rose = pass.level > last_level[context];
  last_level[context] = pass.level;
  const HookFigures* figures[kMaxHooks];
  for (int i = 0; i < kMaxHooks; ++i) {
    Slot& slot = slots[i];
    const bool mine = slot.id != 0 && slot.context == context && !slot.removing;
    if (mine && level_rose) hook_recover(slot.tally.figures);
    figures[i] = mine ? &slot.tally.figures : nullptr;
  }
  uint16_t sorted[kMaxHooks];
  const size_t planned = order(*turn, figures, kMaxHooks, pass.everything || pass.pacer_backs_off,
                               headroom_of(pass), sorted);
  for (size_t i = 0; i < planned; ++i) ids[i] = slots[sorted[i]].id;
  return planned;
}

bool begin_call(uint64_t id, uint64_t round, int64_t now_ns, int64_t deadline_ns,
                Call* call) noexcept {
  LockGuard guard(table_lock);
  Slot* const slot = find(id);
  if (ended.load(std::memory_order_relaxed)) return false;
  if (slot == nullptr || slot->removing || slot->running_tid != 0) return false;
  slot->running_tid = os::thread_id();
  slot->running_since_ns = now_ns;
  slot->deadline_ns = deadline_ns;
  slot->overrun_told = false;
  slot->round = round;
  running_count.fetch_add(1, std::memory_order_relaxed);
  *call = {id, slot->reclaim, slot->arg};
  return true;
}

void record(uint64_t id, const HookRun& run, int64_t answer) noexcept {
  LockGuard guard(table_lock);
  Slot* const slot = find(id);
  if (slot == nullptr) return;
  Tally& tally = slot->tally;
  tally.add(answer >= 0, run.freed_bytes, run.elapsed_ns);
  if (run.past_deadline) {
    tally.overruns += 1;
    emit(slot->overrun_told ? EventKind::kHookReturned : EventKind::kHookOverran, slot - slots,
         static_cast<int64_t>(slot->round), run.elapsed_ns);
  }
  if (answer < 0) {
    hook_cannot_now(tally.figures, run.round);
  } else {
    hook_ran(tally.figures, run);
  }
}

MEMLIMIT_COLD void reset_slots() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  for (Slot& slot : slots) {
    if (slot.id == 0) continue;
    slot.tally = {};
    slot.running_tid = 0;
    if (slot.removing) release_slot(slot);
  }
}

MEMLIMIT_CHILD_CODE void reset_after_fork() noexcept MEMLIMIT_NO_THREAD_SAFETY_ANALYSIS {
  table_lock.reset_after_fork();
  forks.fetch_add(1, std::memory_order_relaxed);
  owner_pid.store(os::process_id(), std::memory_order_relaxed);
  waiters.store(0, std::memory_order_relaxed);
  running_count.store(0, std::memory_order_relaxed);
  past_sums = {};
  // Three pages that nobody has touched where no hook ever was.
  if (next_number != 1) reset_slots();
}

}  // namespace

int add(const memlimit_hook& hook, memlimit_hook_id* id) noexcept {
  constexpr size_t kLeastSize = offsetof(memlimit_hook, arg) + sizeof(void*);
  if (id == nullptr || hook.size < kLeastSize || hook.reclaim == nullptr) return -EINVAL;
  if (hook.name == nullptr || hook.name[0] == '\0') return -EINVAL;
  if (hook.context < 0 || hook.context >= kContexts) return -EINVAL;
  prepare_unwinder();
  end_before_destructors();
  owner_pid.store(os::process_id(), std::memory_order_relaxed);
  LockGuard guard(table_lock);
  for (uint64_t i = 0; i < kMaxHooks; ++i) {
    Slot& slot = slots[i];
    if (slot.id != 0) continue;
    slot.context = hook.context;
    slot.reclaim = hook.reclaim;
    slot.arg = hook.arg;
    strncpy(slot.name, hook.name, sizeof slot.name - 1);
    slot.id = next_number++ << kIndexBits | i;
    counts[hook.context].fetch_add(1, std::memory_order_relaxed);
    *id = slot.id;
    emit(EventKind::kHookAdded, static_cast<int64_t>(i));
    return 0;
  }
  return -ENOSPC;
}

int remove(memlimit_hook_id id) noexcept {
  const int self = os::thread_id();
  bool marked = false;
  for (;;) {
    const uint32_t seen = run_ended.load(std::memory_order_acquire);
    {
      LockGuard guard(table_lock);
      Slot* const slot = find(id);
      // Gone after we had marked it: the run's end released it for us.
      if (slot == nullptr) return marked ? 0 : -ENOENT;
      if (slot->removing && !marked && slot->running_tid == self) return -ENOENT;
      if (slot->running_tid == 0) {
        release_slot(*slot);
        return 0;
      }
      slot->removing = true;
      marked = true;
      if (slot->running_tid == self) return 0;
    }
    waiters.fetch_add(1, std::memory_order_seq_cst);
    os::futex_wait(run_ended, seen, -1);
    waiters.fetch_sub(1, std::memory_order_relaxed);
  }
}

void end_before_what_exists() noexcept { atexit(end_at_exit); }

void end() noexcept {
  {
    LockGuard guard(table_lock);
    // There is a handler for each of many hooks: the first one waits.
    if (ended.exchange(true, std::memory_order_relaxed)) return;
  }
  if (owner_pid.load(std::memory_order_relaxed) != os::process_id()) return;
  const int self = os::thread_id();
  const int64_t until_ns = os::monotonic_ns() + kEndWaitNs;
  for (int64_t left = kEndWaitNs; left > 0; left = until_ns - os::monotonic_ns()) {
    // Counted as one who waits before the last look, or the wake is missed.
    waiters.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t seen = run_ended.load(std::memory_order_acquire);
    const bool runs = any_runs_elsewhere(self);
    if (runs) os::futex_wait(run_ended, seen, left);
    waiters.fetch_sub(1, std::memory_order_relaxed);
    if (!runs) return;
  }
}

int count(int context) noexcept { return counts[context].load(std::memory_order_relaxed); }

Outcome run(int context, const Pass& pass) noexcept {
  Outcome outcome;
  if (count(context) == 0 || ended.load(std::memory_order_relaxed)) return outcome;
  if (service::lacks_room()) return outcome;
  ReentryGuard reentry;
  uint64_t ids[kMaxHooks];
  uint64_t turn;
  const size_t planned = plan(context, pass, ids, &turn);
  for (size_t i = 0; i < planned; ++i) {
    const int64_t wanted = pass.still_wanted != nullptr
                               ? pass.still_wanted(pass, outcome.freed_bytes)
                               : pass.wanted_bytes - outcome.freed_bytes;
    if (wanted <= 0) break;
    const int64_t begin_ns = os::monotonic_ns();
    const int64_t deadline_ns = begin_ns + pass.budget_ns;
    Call call;
    if (!begin_call(ids[i], pass.round, begin_ns, deadline_ns, &call)) {
      outcome.busy += 1;
      continue;
    }
    const Running running(call.id);

    memlimit_request request{};
    request.size = sizeof request;
    request.wanted_bytes = wanted;
    request.usage_bytes = pass.usage_bytes;
    request.limit_bytes = pass.limit_bytes;
    request.level = static_cast<int>(pass.level);
    request.deadline_ns = static_cast<uint64_t>(deadline_ns);
    request.round = pass.round;

    allocator().publish_own(false);
    const int64_t usage_before = account::published_usage_bytes();
    const int64_t own_before = allocator().own_net_freed();
    const int64_t answer = call_guarded(call.reclaim, request, call.arg);
    if (running.forked()) {
      outcome.forked = true;
      return outcome;
    }
    const int64_t own = allocator().own_net_freed() - own_before;
    allocator().publish_own(false);
    const int64_t fall = usage_before - account::published_usage_bytes();
    const int64_t freed = measure(own, fall, std::max<int64_t>(answer, 0));
    const int64_t end_ns = os::monotonic_ns();
    record(call.id,
           {turn, wanted, freed, end_ns - begin_ns, end_ns > deadline_ns, headroom_of(pass)},
           answer);
    // It is to be told now, and the service thread may sleep for long.
    if (end_ns > deadline_ns) service::wake();

    outcome.calls += 1;
    outcome.skips += answer < 0 ? 1 : 0;
    outcome.freed_bytes += freed;
  }
  return outcome;
}

bool take_overrun(int64_t now_ns, Overrun* overrun) noexcept {
  if (running_count.load(std::memory_order_relaxed) == 0 || !table_lock.try_lock()) return false;
  bool found = false;
  for (int i = 0; i < kMaxHooks && !found; ++i) {
    Slot& slot = slots[i];
    if (slot.running_tid == 0 || slot.overrun_told || now_ns <= slot.deadline_ns) continue;
    slot.overrun_told = true;
    *overrun = {i, slot.context, slot.round, slot.running_ns(now_ns)};
    found = true;
  }
  table_lock.unlock();
  return found;
}

int64_t overrun_due_ns() noexcept {
  int64_t due_ns = INT64_MAX;
  if (running_count.load(std::memory_order_relaxed) == 0 || !table_lock.try_lock()) return due_ns;
  for (const Slot& slot : slots) {
    if (slot.running_tid == 0 || slot.overrun_told) continue;
    due_ns = std::min(due_ns, slot.deadline_ns + 1);
  }
  table_lock.unlock();
  return due_ns;
}

bool name_of(int slot, char* out, size_t cap) noexcept {
  if (slot < 0 || slot >= kMaxHooks || cap == 0 || !table_lock.try_lock()) return false;
  strncpy(out, slots[slot].name, cap - 1);
  out[cap - 1] = '\0';
  table_lock.unlock();
  return true;
}

size_t rows(HookRow* out, size_t cap) noexcept {
  const int64_t now_ns = os::monotonic_ns();
  LockGuard guard(table_lock);
  size_t filled = 0;
  for (const Slot& slot : slots) {
    if (slot.id == 0 || filled == cap) continue;
    HookRow& row = out[filled++];
    memcpy(row.name, slot.name, sizeof row.name);
    row.id = slot.id;
    row.context = slot.context;
    slot.tally.fill(row);
    row.running_ns = slot.running_ns(now_ns);
    if (slot.running_tid != 0 && now_ns > slot.deadline_ns) row.overruns += 1;
  }
  return filled;
}

Sums sums() noexcept {
  const int64_t now_ns = os::monotonic_ns();
  LockGuard guard(table_lock);
  Sums sum = past_sums;
  for (const Slot& slot : slots) {
    sum += slot.tally.sums();
    if (slot.running_tid == 0) continue;
    sum.running += 1;
    sum.running_ns = std::max(sum.running_ns, slot.running_ns(now_ns));
    sum.overruns += now_ns > slot.deadline_ns ? 1 : 0;
  }
  return sum;
}

constinit const fork::Part kForkPart{"hooks", fork::hold<table_lock>, fork::let_go<table_lock>,
                                     reset_after_fork};

}  // namespace memlimit::hooks
