/* Frees that other threads had under way when this process was forked, brought to an end.
 *
 * In mimalloc 2 a thread that frees a block of another thread's full page marks the page for the moment in
 * which it tells the owner (MI_DELAYED_FREEING), and the owner waits, spinning, until the mark is gone. In the
 * child of a fork the other thread is gone and the mark stays: the child waits for ever in mi_collect(), or
 * when the thread that forked ends. Measured, three threads that free what a fourth allocates while it forks:
 * one child in 2,000 never came back from mi_collect(), with mimalloc alone.
 */
#pragma once

namespace memlimit::interrupted_frees {

/** Takes the marks off the pages of the calling thread. In the child of fork, while it has one thread. Allocates
 *  nothing. A block whose free was interrupted before it was handed over is lost. */
void end_after_fork() noexcept;

}  // namespace memlimit::interrupted_frees
