/* Threads of our own: detached, with all signals blocked, on a stack of a given size.
 *
 * glibc takes a thread's static thread-local storage from its stack, as much as the program and its libraries have. A stack
 * that is sized without it is too small in a program with much of it, or cannot be had at all.
 * Threads: any. Allocates: as pthread_create() does.
 */
#pragma once

#include <cstddef>

namespace memlimit::os {

/** Finds out what libc takes from each stack. Once, from the constructor: it asks the loader. */
void learn_thread_storage() noexcept;

/** Starts a thread, and returns what pthread_create() does. `stack_bytes` are free for the thread's frames. The signals are
 *  blocked: none of the program's may ever be delivered to it. */
int start_thread(size_t stack_bytes, void* (*run)(void*), void* argument) noexcept;

}  // namespace memlimit::os
