/* fork(): takes every lock in rank order before it, lets go after it, and starts anew in the child.
 * Threads: register_handlers() once, from the constructor. */
#pragma once

namespace memlimit::fork {

/** Registers with pthread_atfork. May allocate, so the entry points must work already. */
void register_handlers() noexcept;

}  // namespace memlimit::fork
