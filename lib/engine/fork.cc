/* See fork.h. The child has one thread, the one that forked; the service thread and its descriptors are the
 * parent's. Counts stay: the memory they stand for is here, too. */
#include "engine/fork.h"

#include <atomic>
#include <cassert>

#include <pthread.h>

#include "engine/thread_state.h"
#include "system/attributes.h"
#include "system/lone_thread.h"

namespace memlimit::fork {

MEMLIMIT_TLS uint32_t inside_here = 0;

namespace {

/* A fork waits no longer than this at the gate: signal handlers that fork on two threads wait for one another, and
 * whoever forks may hold the loader's lock, for which somebody inside waits. */
constexpr int64_t kPatienceNs = 50'000'000;

/* What the table has, side by side: its rows are spread over pages that a child would touch for nothing else. */
struct Steps {
  void (*hold[kMaxHolds])() noexcept;
  void (*let_go[kMaxHolds])() noexcept; /* in the order of the table, as the others */
  void (*reset[kMaxParts])() noexcept;
  uint8_t holds, lets_go, resets;
  bool hold_alone[kMaxHolds], let_go_alone[kMaxHolds];
};
constinit MEMLIMIT_FORK_DATA Steps steps{};

constinit MEMLIMIT_FORK_DATA ForkGate process_gate{};
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> gate_patience_ns{kPatienceNs};

/* Calls of fork() under way on this thread. A signal handler may fork in the middle of one: what that one holds, or is
 * about to, it must not wait for. */
MEMLIMIT_TLS uint32_t forks_here = 0;

MEMLIMIT_FORK_CODE void hold(bool alone) noexcept {
  for (size_t i = 0; i < steps.holds; ++i) {
    if (steps.hold_alone[i] == alone) steps.hold[i]();
  }
}

MEMLIMIT_FORK_CODE void let_go(bool alone) noexcept {
  for (size_t i = steps.lets_go; i > 0; --i) {
    if (steps.let_go_alone[i - 1] == alone) steps.let_go[i - 1]();
  }
}

MEMLIMIT_FORK_CODE void prepare() {
  if (forks_here == 0) {
    hold(true);
    // Nothing is noted either: this thread's own page would be copied for it.
    if (os::is_lone_thread()) return;
  }
  // What the program's own handlers allocate meanwhile, should they run after this, starts nothing.
  ++this_thread.guard_depth;
  if (forks_here++ == 0) hold(false);
}

MEMLIMIT_FORK_CODE void parent() {
  if (forks_here == 1) let_go(false);
  if (forks_here > 0) {
    --forks_here;
    --this_thread.guard_depth;
  }
  if (forks_here == 0) let_go(true);
}

MEMLIMIT_CHILD_BEGIN void child() {
  // Before the table is read: a page that is written first costs one fault, and one that is read first two.
  process_gate.reset_after_fork(inside_here);
  // Also inside an outer fork, which goes on in this process when the signal handler returns: it then finds its locks
  // free, and parent() lets go of none.
  for (size_t i = 0; i < steps.resets; ++i) steps.reset[i]();
  if (forks_here == 0) return;
  --forks_here;
  --this_thread.guard_depth;
}

}  // namespace

void register_handlers(const Part* const* table, size_t count) noexcept {
  steps = {};
  for (size_t i = 0; i < count; ++i) {
    const Part& part = *table[i];
    assert(steps.holds < kMaxHolds && steps.lets_go < kMaxHolds && steps.resets < kMaxParts);
    if (part.hold != nullptr) {
      steps.hold_alone[steps.holds] = part.alone;
      steps.hold[steps.holds++] = part.hold;
    }
    if (part.let_go != nullptr) {
      steps.let_go_alone[steps.lets_go] = part.alone;
      steps.let_go[steps.lets_go++] = part.let_go;
    }
    if (part.reset != nullptr) steps.reset[steps.resets++] = part.reset;
  }
  pthread_atfork(prepare, parent, child);
}

ForkGate& gate() noexcept { return process_gate; }

void be_patient(int64_t patience_ns) noexcept {
  int64_t seen = gate_patience_ns.load(std::memory_order_relaxed);
  while (patience_ns > seen &&
         !gate_patience_ns.compare_exchange_weak(seen, patience_ns, std::memory_order_relaxed)) {
  }
}

MEMLIMIT_FORK_CODE void close_gate() noexcept {
  process_gate.close(inside_here, gate_patience_ns.load(std::memory_order_relaxed));
}

}  // namespace memlimit::fork
