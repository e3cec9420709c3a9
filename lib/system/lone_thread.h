/* Whether libc takes this process for one of a single thread: fork() then takes no locks and touches a third fewer pages, and
 * C++'s shared pointers count without atomic instructions.
 *
 * libc says so in a variable (<sys/single_threaded.h>, since 2.32), which the first pthread_create() sets to 0 for ever, however
 * short the thread lives. Applications must not write to it. A thread that comes and goes without the program's knowledge has to:
 * the program would be another one for it.
 * Threads: any. Context: also in the handlers of fork().
 */
#pragma once

namespace memlimit::os {

/** Whether libc is certain that the process has one thread. Two loads. */
bool is_lone_thread() noexcept;

/** Where libc tells programs; nullptr: it does not. For a library that is not linked with libc's variable. Before there are
 *  threads. */
void set_told_lone_thread(char* flag) noexcept;

/** Where libc itself reads the variable (since 2.36: a program that reads it has a copy of its own, and the library sees that
 *  one); nullptr: unknown. From the constructor. */
void set_libc_lone_thread(char* own) noexcept;

/** Tells libc that the process has one thread, where the kernel says so; whether libc knows it now. Not for who may have
 *  interrupted pthread_create(), which has told libc already that there will be another. errno is kept. */
bool note_lone_thread() noexcept;

}  // namespace memlimit::os
