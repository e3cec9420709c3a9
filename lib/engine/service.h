/* The one background thread, named "memlimit", with all signals blocked. It runs tasks: rounds, runtimes, the socket,
 * the log register here what they want done, and it knows none of them by name.
 *
 * Answers for: existing only when needed (it may be started from inside any allocation), waking up without cause every
 * few seconds only (the program may have closed its descriptors), being forgotten in the child of a fork and started
 * again there when needed, and descriptors that stay out of the program's way.
 * Threads: start() and wake() may be called by any thread, inside malloc too; tasks run on the service thread.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/fork.h"

namespace memlimit::service {

/** What a task is told of a turn of the thread. */
struct Turn {
  enum class Ready : uint8_t {
    kNo,      /* the thread slept, and the task's descriptor had nothing */
    kUnknown, /* nobody looked, or the longest sleep is over */
    kYes,     /* its descriptor is ready */
  };
  int64_t now_ns;
  Ready ready; /* of a task without a descriptor: kNo or kUnknown */
};

/** A null pointer is what the task has no need of, but for run(). All on the service thread unless said otherwise. */
struct Task {
  /** The thread has begun: in the process, or in the child of a fork. */
  void (*begin)() noexcept = nullptr;
  /** Once a turn, in the order of registration. It may run code of the program's (hooks). */
  void (*run)(const Turn& turn) noexcept = nullptr;
  /** Whether run() is wanted again at once: then the thread does not sleep. A few atomic loads. */
  bool (*has_work)() noexcept = nullptr;
  /** When run() is wanted at the latest, on CLOCK_MONOTONIC; INT64_MAX: never. */
  int64_t (*due_ns)() noexcept = nullptr;
  /** What to wait for besides wake(); negative: nothing now. */
  int (*wait_fd)() noexcept = nullptr;
  /** The thread is about to end, in the reverse order of registration. */
  void (*end)() noexcept = nullptr;
  /** stop() has waited for the thread in vain (a hook hangs): what must not be left behind. On stop()'s thread. */
  void (*cut_off)() noexcept = nullptr;
};

inline constexpr size_t kMaxTasks = 8;

/** Registers a task, which lives for ever. At start, before the first start(). False when there are too many. */
bool add_task(const Task& task) noexcept;

/** Starts the thread unless it runs, is being started or cannot be had (then it is tried again after a
 *  while), or nobody has registered a task. Never blocks on it. errno is kept. */
void start() noexcept;

/** Whether the thread exists (or is about to). */
bool running() noexcept;

/** Makes it look for work; cheap when it is already on its way. */
void wake() noexcept;

/** At exit: has the tasks end. Bounded wait. */
void stop() noexcept;

/** Why the last start failed, an errno; 0: it did not. */
int last_error() noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::service
