/* The background thread, named "memlimit", with all signals blocked. It runs tasks (task.h): rounds, runtimes, the socket,
 * the log register here what they want done, and it knows none of them by name.
 *
 * Answers for: existing only when needed (it may be started from inside any allocation), stepping aside where the program
 * must find itself without it, waking up without cause rarely (the program may have closed its
 * descriptors), being forgotten in the child of a fork and started again there when needed.
 * Threads: all but tasks may be called by any thread, inside malloc too; tasks run on the service thread.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "engine/task.h"

namespace memlimit::service {

/** While it lives, the service thread runs code of the program's, which may block: all tasks but those that go away are
 *  served by another thread after 50 to 100 ms (relief.h). The destructor waits until that one has ended what it is at.
 *  On another thread: nothing. */
class Away {
 public:
  Away() noexcept;
  ~Away();
  Away(const Away&) = delete;
  Away& operator=(const Away&) = delete;
};

/** On the service thread: its stack is too small for what tasks need by now. They leave the program's code alone, and what is
 *  wanted of it as it is: the thread is about to be replaced by one that has room. On another thread: false. */
bool lacks_room() noexcept;

/** Whether the service thread is away, and has been for so long that another one serves. An atomic load. */
bool is_stuck() noexcept;

/** Starts the thread unless it runs, is being started or cannot be had (then it is tried again after a
 *  while), or nobody has registered a task. Never blocks on it. errno is kept. */
void start() noexcept;

/** As start(), for what can wait: not while the program may be at what the thread has stepped aside for. */
void start_unless_aside() noexcept;

/** Somebody waits for the thread - a setting asked for the socket, it has stepped aside, the parent of this process had
 *  it - and it is to come without further need: when the program has run for a moment, or waits for events. An atomic
 *  load. */
bool awaited() noexcept;

/** Has it awaited from now on. At start. */
void await() noexcept;

/** Of what is awaited: at a look of the program's thread. */
void start_after_a_moment() noexcept;

/** Something in the process counts its threads after a fork: the thread does not come back in the parent at once, but at the
 *  next look or wait. */
void stay_aside_after_fork() noexcept;

/** What a program's thread is about to wait for. */
enum class WaitFor : uint8_t {
  kEvents,   /* whatever it sets up is set up */
  kChildren, /* or signals. Who has had no thread yet may be a wrapper, and the program behind it is the one to ask */
};

/** Of what is awaited: the program's thread is about to wait. Not in what looks like a signal handler, which may have
 *  interrupted malloc, nor in the child of vfork; and for one that waits for children not while it forks often. */
void start_before_wait(WaitFor what) noexcept;

/** Ends the thread, which is then awaited: the program is about to do what the thread would be in the way of.
 *  When this returns the kernel does not count the thread any more; but when a task needs longer than 50 ms (a hook that
 *  hangs), it stays. Waits for no lock. */
void step_aside() noexcept;

/** As step_aside(), for what a process does as a single thread: not where the program has other threads itself. */
void leave_single_thread() noexcept;

/** Whether somebody waits for the thread to end: tasks that take their time return. An atomic load. */
bool is_leaving() noexcept;

/** Whether the thread exists (or is about to). */
bool running() noexcept;

/** Makes it look for work; cheap when it is already on its way. */
void wake() noexcept;

/** At exit: has the tasks end. Bounded wait. The thread registers it with atexit(), since other libraries' destructors end
 *  what it may be using. */
void stop() noexcept;

/** Why the last start failed, an errno; 0: it did not. */
int last_error() noexcept;

/** Its row of fork's table that comes before all others, since the thread may hold what they wait for. */
extern const fork::Part kAsidePart;
extern const fork::Part kForkPart;

}  // namespace memlimit::service
