/* What the service thread does: tasks, each of which says when it wants to run.
 *
 * Answers for: a turn, and how long the server may sleep until the next. Refuses to know any task by name (lib/start.cc lists
 * them), and whether there is a thread to run them: service.h.
 * Threads: as said for each function; one thread serves at a time.
 */
#pragma once

#include <cstddef>
#include <cstdint>

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
  /** The thread has begun for the first time in this process. */
  void (*begin)() noexcept = nullptr;
  /** The thread is there, for the first time or again. */
  void (*enter)() noexcept = nullptr;
  /** Once a turn, in the order of registration. Whoever runs code of the program's (hooks) says so, see Away. */
  void (*run)(const Turn& turn) noexcept = nullptr;
  /** Whether run() is wanted again at once: then the thread does not sleep. A few atomic loads. */
  bool (*has_work)() noexcept = nullptr;
  /** When run() is wanted at the latest, on CLOCK_MONOTONIC; INT64_MAX: never. */
  int64_t (*due_ns)() noexcept = nullptr;
  /** What to wait for besides wake(); negative: nothing now. */
  int (*wait_fd)() noexcept = nullptr;
  /** Whether run() may call the program's code (hooks, a runtime), which is to have as much stack as the program's threads
   *  have. A few atomic loads; any thread. What it says of is not to be begun where lacks_room(). */
  bool (*needs_room)() noexcept = nullptr;
  /** It is the task that goes away: nobody runs it in its own place. */
  bool goes_away = false;
  /** The process is about to end, in the reverse order of registration. Not when the thread steps aside. */
  void (*end)() noexcept = nullptr;
  /** stop() has waited for the thread in vain (a hook hangs): what must not be left behind. On stop()'s thread. */
  void (*cut_off)() noexcept = nullptr;
};

inline constexpr size_t kMaxTasks = 12;

/** Registers a task, which lives for ever. At start, before the first start(). False when there are too many. */
bool add_task(const Task& task) noexcept;

/** Who serves: the service thread, or the one that stands in for it. */
enum class Server : bool { kService, kRelief };

namespace tasks {

/** Whether there are any, and whether one needs_room(). Any thread. */
bool any() noexcept;
bool need_room() noexcept;

/** The server has come, for the first time in this process or again. */
void enter(bool first) noexcept;

/** Turns, until the server is not on_duty() any more. False: this is a child's copy of the thread, whose process had another
 *  number than `pid`. */
bool serve(Server server, int pid, bool (*on_duty)() noexcept) noexcept;

/** Has each end, or cuts it off: as Task says. */
void end() noexcept;
void cut_off() noexcept;

}  // namespace tasks
}  // namespace memlimit::service
