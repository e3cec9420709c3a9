/* See task.h. */
#include "engine/task.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include <poll.h>

#include "engine/bell.h"
#include "pacing/idle_interval.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::service {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

/* Written before the first start(), which the thread's creation follows. */
constinit const Task* list[kMaxTasks]{};
constinit MEMLIMIT_FORK_DATA size_t count = 0;

/* The server's: when the bell or a descriptor last did. */
constinit MEMLIMIT_FORK_DATA int64_t called_ns = 0;

bool serves(Server server, const Task& task) noexcept {
  return server == Server::kService || !task.goes_away;
}

/* Milliseconds for poll(): until the next deadline of any kind. There is a longest sleep without one, since a program that
 * closes all descriptors closes the bell's, too; the kernel keeps it for a poll() that is under way, which nobody can end any
 * more. The next one is told, and makes another: not at once, or it could get a low number that the program is about to use. */
int sleep_ms(Server server) noexcept {
  int64_t deadline_ns = INT64_MAX;
  for (size_t i = 0; i < count; ++i) {
    if (list[i]->due_ns == nullptr || !serves(server, *list[i])) continue;
    deadline_ns = std::min(deadline_ns, list[i]->due_ns());
  }
  const int64_t now_ns = os::monotonic_ns();
  if (deadline_ns <= now_ns) return 0;
  const int64_t left_ns = std::min(deadline_ns - now_ns, longest_sleep_ns(now_ns - called_ns));
  return static_cast<int>(left_ns / kNsPerMs + 1);
}

/* What each task's descriptor had, where it has one. */
struct Readiness {
  Turn::Ready of[kMaxTasks];

  void set_all(Turn::Ready ready) noexcept { std::fill(std::begin(of), std::end(of), ready); }
};

void sleep_until_woken(Server server, Readiness* readiness) noexcept {
  pollfd fds[1 + kMaxTasks];
  size_t waiting_task[1 + kMaxTasks];
  size_t waiting = 1;
  for (size_t i = 0; i < count; ++i) {
    if (list[i]->wait_fd == nullptr) continue;
    // A negative descriptor is passed over, so a task that waits for nothing now needs no case of its own.
    waiting_task[waiting] = i;
    fds[waiting++] = {list[i]->wait_fd(), POLLIN, 0};
  }
  const int ready = bell::wait(fds, waiting, sleep_ms(server));
  if (ready > 0 || bell::rang()) called_ns = os::monotonic_ns();
  readiness->set_all(ready > 0 ? Turn::Ready::kNo : Turn::Ready::kUnknown);
  for (size_t i = 1; ready > 0 && i < waiting; ++i) {
    if (fds[i].revents != 0) readiness->of[waiting_task[i]] = Turn::Ready::kYes;
  }
}

bool have_work(Server server) noexcept {
  for (size_t i = 0; i < count; ++i) {
    if (list[i]->has_work == nullptr || !serves(server, *list[i])) continue;
    if (list[i]->has_work()) return true;
  }
  return false;
}

void call_all(void (*Task::*function)() noexcept) noexcept {
  for (size_t i = 0; i < count; ++i) {
    if (list[i]->*function != nullptr) (list[i]->*function)();
  }
}

}  // namespace

bool add_task(const Task& task) noexcept {
  if (count == kMaxTasks) return false;
  list[count++] = &task;
  return true;
}

bool tasks::any() noexcept { return count > 0; }

bool tasks::need_room() noexcept {
  for (size_t i = 0; i < count; ++i) {
    if (list[i]->needs_room != nullptr && list[i]->needs_room()) return true;
  }
  return false;
}

void tasks::enter(bool first) noexcept {
  called_ns = os::monotonic_ns();
  if (first) call_all(&Task::begin);
  call_all(&Task::enter);
}

bool tasks::serve(Server server, int pid, bool (*on_duty)() noexcept) noexcept {
  Readiness readiness;
  readiness.set_all(Turn::Ready::kUnknown);
  while (on_duty()) {
    for (size_t i = 0; i < count; ++i) {
      if (!serves(server, *list[i])) continue;
      list[i]->run({os::monotonic_ns(), readiness.of[i]});
      if (os::process_id() != pid) return false;
    }
    if (have_work(server)) {
      readiness.set_all(Turn::Ready::kUnknown); /* descriptors are looked after in between */
    } else {
      sleep_until_woken(server, &readiness);
    }
  }
  return true;
}

void tasks::end() noexcept {
  for (size_t i = count; i > 0; --i) {
    if (list[i - 1]->end != nullptr) list[i - 1]->end();
  }
}

void tasks::cut_off() noexcept { call_all(&Task::cut_off); }

}  // namespace memlimit::service
