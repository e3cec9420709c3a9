/* See fork.h. The child has one thread, the one that forked; the service thread and its descriptors are the
 * parent's. Counts stay: the memory they stand for is here, too. */
#include "engine/fork.h"

#include <atomic>

#include <pthread.h>

#include "engine/thread_state.h"
#include "system/attributes.h"

namespace memlimit::fork {

MEMLIMIT_TLS uint32_t inside_here = 0;

namespace {

/* A fork waits no longer than this at the gate: signal handlers that fork on two threads wait for one another, and
 * whoever forks may hold the loader's lock, for which somebody inside waits. */
constexpr int64_t kPatienceNs = 50'000'000;

constinit MEMLIMIT_FORK_DATA const Part* const* parts = nullptr;
constinit MEMLIMIT_FORK_DATA size_t part_count = 0;

constinit MEMLIMIT_FORK_DATA ForkGate process_gate{};
constinit MEMLIMIT_FORK_DATA std::atomic<int64_t> gate_patience_ns{kPatienceNs};

/* Calls of fork() under way on this thread. A signal handler may fork in the middle of one: what that one holds, or is
 * about to, it must not wait for. */
MEMLIMIT_TLS uint32_t forks_here = 0;

MEMLIMIT_FORK_CODE void prepare() {
  // What the program's own handlers allocate meanwhile, should they run after this, starts nothing.
  ++this_thread.guard_depth;
  if (forks_here++ > 0) return;
  for (size_t i = 0; i < part_count; ++i) {
    if (parts[i]->hold != nullptr) parts[i]->hold();
  }
}

MEMLIMIT_FORK_CODE void parent() {
  if (forks_here == 1) {
    for (size_t i = part_count; i > 0; --i) {
      if (parts[i - 1]->let_go != nullptr) parts[i - 1]->let_go();
    }
  }
  --forks_here;
  --this_thread.guard_depth;
}

MEMLIMIT_FORK_CODE void child() {
  // Also inside an outer fork, which goes on in this process when the signal handler returns: it then finds its locks
  // free, and parent() lets go of none.
  for (size_t i = 0; i < part_count; ++i) {
    if (parts[i]->reset != nullptr) parts[i]->reset();
  }
  --forks_here;
  --this_thread.guard_depth;
}

}  // namespace

void register_handlers(const Part* const* table, size_t count) noexcept {
  parts = table;
  part_count = count;
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

MEMLIMIT_FORK_CODE void reset_gate() noexcept { process_gate.reset_after_fork(inside_here); }

}  // namespace memlimit::fork
