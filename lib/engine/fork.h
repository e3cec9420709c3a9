/* fork(): takes every lock in rank order before it, lets go after it, and starts anew in the child.
 * Threads: register_handlers() once, from the constructor. */
#pragma once

namespace memlimit::fork {

/* What the allocator needs. Neither may allocate. Called for a process that has, or had, other threads: what those were
 * doing inside the allocator is left as it was in the child. */
struct AllocatorOps {
  void (*prepare)() noexcept;      /* before fork, while none of our locks is held */
  void (*repair_child)() noexcept; /* in the child, before anything is asked of the allocator */
};

/** Registers with pthread_atfork. May allocate, so the entry points must work already. */
void register_handlers(const AllocatorOps& allocator) noexcept;

}  // namespace memlimit::fork
