#include "observe/event_ring.h"

#include <algorithm>
#include <string_view>

#include "memlimit.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit {
namespace {

enum class Form : uint8_t { kNone, kNumber, kLevel, kLimitSource, kHook, kAdapter };

struct Arg {
  Form form = Form::kNone;
  std::string_view key;
};

struct Row {
  const char* name;
  LogLevel level;
  const char* sentence;
  Arg args[Event::kArgs];
};

const Row& row_of(EventKind kind) noexcept {
  using enum Form;
  static constexpr Row kRows[] = {
#define MEMLIMIT_EVENT(id, name, level, sentence, ...) \
  {name, LogLevel::level, sentence, {__VA_ARGS__}},
#include "observe/events.inc"
#undef MEMLIMIT_EVENT
  };
  return kRows[static_cast<size_t>(kind)];
}

constexpr std::string_view kLevels[] = {"low", "moderate", "critical", "over"};
static_assert(MEMLIMIT_OVER == 3);
constexpr std::string_view kLimitSources[] = {"environment", "api", "socket", "container"};

template <size_t N>
void put_word(TextWriter& out, const std::string_view (&words)[N], int64_t value) noexcept {
  if (value >= 0 && static_cast<uint64_t>(value) < N) {
    out.put(words[value]);
  } else {
    out.put_int(value);
  }
}

void put_arg(TextWriter& out, const Arg& arg, int64_t value, const EventNames& names) noexcept {
  out.put(' ').put(arg.key).put('=');
  switch (arg.form) {
    case Form::kNone:
    case Form::kNumber:
      out.put_int(value);
      return;
    case Form::kLevel:
      put_word(out, kLevels, value);
      return;
    case Form::kLimitSource:
      put_word(out, kLimitSources, value);
      return;
    case Form::kHook: {
      out.put_int(value);
      const char* const name = names.hook != nullptr ? names.hook(value) : nullptr;
      if (name != nullptr) out.put(" hook=").put_column(name);
      return;
    }
    case Form::kAdapter: {
      const char* const name = names.adapter != nullptr ? names.adapter(value) : nullptr;
      out.put(name != nullptr ? name : "?");
      return;
    }
  }
}

constinit EventRing g_events;

/* The child of a fork has its parent's events. Who looks first forgets them: most children end, or become another program,
 * before anybody does. */
enum class Events : uint32_t { kOwn, kParents, kBeingForgotten };
constinit MEMLIMIT_FORK_DATA std::atomic<Events> events_are{Events::kOwn};

/* False: another thread is at it, or the one that this signal handler interrupts. */
bool have_own_events() noexcept {
  Events seen = events_are.load(std::memory_order_acquire);
  if (seen == Events::kOwn) return true;
  if (seen == Events::kBeingForgotten) return false;
  if (!events_are.compare_exchange_strong(seen, Events::kBeingForgotten,
                                          std::memory_order_acquire)) {
    return seen == Events::kOwn;
  }
  g_events.reset_after_fork();
  events_are.store(Events::kOwn, std::memory_order_release);
  return true;
}

}  // namespace

bool EventRing::push(const Event& event) noexcept {
  uint64_t position = head_.load(std::memory_order_relaxed);
  for (;;) {
    Slot& slot = slots_[position % kCapacity];
    const uint64_t empty = 2 * (position / kCapacity);
    // Acquire: the reader of the last turn must be done with the event before it is overwritten.
    const uint64_t turn = slot.turn.load(std::memory_order_acquire);
    if (turn == empty) {
      if (head_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        slot.event = event;
        slot.turn.store(empty + 1, std::memory_order_release);
        return true;
      }
    } else if (turn < empty) {
      // The event of a turn ago is still here: full. Waiting for the reader is not for malloc.
      dropped_.fetch_add(1, std::memory_order_relaxed);
      last_dropped_.store(event.time_ns, std::memory_order_relaxed);
      // Release: who takes the count sees the time.
      untold_.fetch_add(1, std::memory_order_release);
      return false;
    } else {
      position = head_.load(std::memory_order_relaxed);
    }
  }
}

bool EventRing::pop(Event* event) noexcept {
  uint64_t position = tail_.load(std::memory_order_relaxed);
  for (;;) {
    Slot& slot = slots_[position % kCapacity];
    const uint64_t full = 2 * (position / kCapacity) + 1;
    const uint64_t turn = slot.turn.load(std::memory_order_acquire);
    if (turn == full) {
      if (tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        *event = slot.event;
        slot.turn.store(full + 1, std::memory_order_release);
        return true;
      }
    } else if (turn < full) {
      return take_lost(event);
    } else {
      position = tail_.load(std::memory_order_relaxed);
    }
  }
}

bool EventRing::take_lost(Event* event) noexcept {
  if (untold_.load(std::memory_order_relaxed) == 0) return false;
  const uint64_t count = untold_.exchange(0, std::memory_order_acquire);
  if (count == 0) return false; /* another reader has told it */
  *event = {EventKind::kEventsLost, last_dropped_.load(std::memory_order_relaxed), {}};
  event->args[0] = static_cast<int64_t>(count);
  return true;
}

void EventRing::reset_after_fork() noexcept {
  // Only what was written to: the others are the parent's pages, or nobody's, until the child writes there.
  const uint64_t written =
      std::min<uint64_t>(head_.load(std::memory_order_relaxed), uint64_t{kCapacity});
  if (written == 0) return;
  for (uint64_t i = 0; i < written; ++i) slots_[i].turn.store(0, std::memory_order_relaxed);
  head_.store(0, std::memory_order_relaxed);
  tail_.store(0, std::memory_order_relaxed);
  dropped_.store(0, std::memory_order_relaxed);
  untold_.store(0, std::memory_order_relaxed);
}

EventRing& process_events() noexcept {
  while (!have_own_events()) os::yield();
  return g_events;
}

MEMLIMIT_CHILD_CODE void forget_events_after_fork() noexcept {
  events_are.store(Events::kParents, std::memory_order_relaxed);
}

bool emit(EventKind kind, int64_t arg0, int64_t arg1, int64_t arg2, int64_t arg3) noexcept {
  os::ErrnoGuard guard;
  if (!have_own_events()) return false;
  return g_events.push({kind, os::monotonic_ns(), {arg0, arg1, arg2, arg3}});
}

size_t format_event(const Event& event, const EventNames& names, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  const Row& row = row_of(event.kind);
  writer.put("event=").put(row.name).put(" time_ns=").put_int(event.time_ns);
  for (int i = 0; i < Event::kArgs; ++i) {
    if (row.args[i].form == Form::kNone) break;
    put_arg(writer, row.args[i], event.args[i], names);
  }
  return writer.length();
}

const char* event_name(EventKind kind) noexcept { return row_of(kind).name; }
LogLevel event_level(EventKind kind) noexcept { return row_of(kind).level; }
const char* event_sentence(EventKind kind) noexcept { return row_of(kind).sentence; }

}  // namespace memlimit
