/* fork(): takes every lock in rank order before it, lets go after it, and starts anew in the child.
 * Threads: register_handlers() once, from the constructor. */
#pragma once

namespace memlimit::fork {

/** Registers with pthread_atfork. May allocate, so the entry points must work already.
 *  repair: what the allocator needs in the child of a process that had other threads. It may not allocate. */
void register_handlers(void (*repair)() noexcept) noexcept;

}  // namespace memlimit::fork
