/* fork(): every part of memlimit that has something to hold, to let go of or to begin anew is one row of one table.
 *
 * Answers for: running the table around a fork - in its order before, in the reverse order in the parent, in its order
 * in the child - also when a signal handler forks in the middle of the same thread's fork; and the one gate that keeps
 * threads out of what the child must not find half done. Refuses to know the parts: whoever wires them (lib/start.cc)
 * hands the table in.
 * Threads: register_handlers() once; the rest by any.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/fork_gate.h"
#include "system/lock.h"

namespace memlimit::fork {

/** One row; a null pointer is what the part has no need of. None may allocate, wait for ever or throw. */
struct Part {
  const char* name;
  /** Before fork, on the thread that forks: brings the part into a state that the child can go on with. */
  void (*hold)() noexcept = nullptr;
  /** In the parent: undoes hold(). */
  void (*let_go)() noexcept = nullptr;
  /** In the child, which has this thread alone: undoes hold(), and forgets what is the parent's. */
  void (*reset)() noexcept = nullptr;
  /** hold() and let_go() are for a process of one thread, too. Others have nobody to keep out there, and the parent would
   *  write to pages that it shares with the child. */
  bool alone = false;
};

/** The most parts of a table, and the most of them that hold something. */
inline constexpr size_t kMaxParts = 27, kMaxHolds = 12;

/** For a part that is a lock. */
template <Lock& lock>
void hold() noexcept {
  lock.lock_for_fork();
}
template <Lock& lock>
void let_go() noexcept {
  lock.unlock_after_fork();
}

/** Registers with pthread_atfork. The table lives for ever. May allocate, so the entry points must work already. */
void register_handlers(const Part* const* parts, size_t count) noexcept;

/** How often this thread is inside the gate. */
extern MEMLIMIT_TLS uint32_t inside_here;

/** The process's gate: for what takes no lock of ours and yet must not be under way in another thread when a process
 *  forks. Its row of the table comes first, since those inside may take locks. */
ForkGate& gate() noexcept;

/** While it lives, forks wait for this thread, within bounds. False: a fork is under way, and the caller does without. */
class Inside : public ForkGate::Inside {
 public:
  Inside() noexcept : ForkGate::Inside(gate(), inside_here) {}
};

/** From now on forks wait at the gate for this long instead of 50 ms. Never less than before. */
void be_patient(int64_t patience_ns) noexcept;

/** The gate's row. `let_go` is whoever wires it; see ForkGate::open(). */
void close_gate() noexcept;

}  // namespace memlimit::fork
