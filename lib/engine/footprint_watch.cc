/* See footprint_watch.h. */
#include "engine/footprint_watch.h"

#include "engine/footprint.h"
#include "engine/look.h"
#include "engine/paced.h"
#include "engine/participants.h"
#include "engine/pressure.h"
#include "pacing/touch_interval.h"
#include "system/os.h"

namespace memlimit::footprint_watch {
namespace {

/* Of the service thread. In the child of a fork they are the parent's: one look too many, when it has a thread. */
constinit TouchWatch watch{};
constinit int64_t look_due_ns = INT64_MAX;
constinit int64_t seen_footprint_bytes = 0; /* at the last look, as the clock */
constinit int64_t seen_clock_bytes = 0;

TouchSight sight(int64_t now_ns) noexcept {
  TouchSight sight = footprint::touch_sight();
  sight.now_ns = now_ns;
  sight.cpu_ns = os::process_cpu_ns();
  return sight;
}

/* Rounds are due by the program's clock, which stands still while it only touches. */
void advance_clock() noexcept {
  const int64_t footprint = paced::footprint_bytes();
  const int64_t clock = pressure::clock_bytes();
  const int64_t untold = (footprint - seen_footprint_bytes) - (clock - seen_clock_bytes);
  if (look_due_ns != INT64_MAX && untold > 0) pressure::add_touched(untold);
  seen_footprint_bytes = footprint;
  seen_clock_bytes = pressure::clock_bytes();
}

void look(int64_t now_ns) noexcept {
  footprint::read();
  advance_clock();
  look::now(false);
  const int64_t interval_ns = next_touch_look_ns(watch, sight(now_ns));
  look_due_ns = interval_ns == INT64_MAX ? INT64_MAX : now_ns + interval_ns;
}

/* Asleep for good, it is woken by a reading on a program's thread that shows what this one must see. Asked for before the
 * last figures are looked at: a reading in between is not missed. */
void follow(const service::Turn& turn) noexcept {
  if (look_due_ns != INT64_MAX) {
    if (turn.now_ns >= look_due_ns) look(turn.now_ns);
    return;
  }
  footprint::wake_when_unseen(true);
  if (!may_pass_unseen(footprint::touch_sight())) return;
  footprint::wake_when_unseen(false);
  look(turn.now_ns);
}

}  // namespace

constinit const service::Task kTask{
    .run = follow,
    .due_ns = []() noexcept { return look_due_ns; },
};

}  // namespace memlimit::footprint_watch
