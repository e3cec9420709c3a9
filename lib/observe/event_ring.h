/* Small events from code that may not log - malloc's slow path, signal-safe corners - kept until
 * the service thread turns them into lines.
 *
 * Answers for: an order, a bounded memory, and a count of what did not fit. Refuses to wait, to
 * allocate, to lock and to wake anybody. The ring is D. Vyukov's bounded queue, with turns instead
 * of positions in the slots so that a ring of zeros is an empty one (it lives in .bss). Threads:
 * any number push and pop at once, signal handlers included; the service thread pops.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "settings/config.h"
#include "system/text.h"

namespace memlimit {

/** One value for each row of events.inc, in its order. */
enum class EventKind : uint8_t {
#define MEMLIMIT_EVENT(id, name, level, sentence, ...) id,
#include "observe/events.inc"
#undef MEMLIMIT_EVENT
};

inline constexpr int kEventKindCount = [] {
  int count = 0;
#define MEMLIMIT_EVENT(id, name, level, sentence, ...) ++count;
#include "observe/events.inc"
#undef MEMLIMIT_EVENT
  return count;
}();

/** Who changed the limit: kLimit's last argument. */
enum class LimitSource : uint8_t { kEnvironment, kApi, kSocket, kContainer };

struct Event {
  static constexpr int kArgs = 4;
  EventKind kind = EventKind::kRound;
  int64_t time_ns = 0;      /* CLOCK_MONOTONIC */
  int64_t args[kArgs] = {}; /* as in events.inc; the rest is 0 */
};

class EventRing {
 public:
  static constexpr size_t kCapacity = 256; /* 16 KiB; a power of two */

  constexpr EventRing() noexcept = default;
  EventRing(const EventRing&) = delete;
  EventRing& operator=(const EventRing&) = delete;

  /**
   * Adds a copy of the event; false when the ring is full: the event is counted in dropped().
   * Threads: any. Context: anywhere, signal handlers included. Lock-free; no system call.
   */
  bool push(const Event& event) noexcept;

  /** Takes the oldest event; false when there is none (or its thread is still writing it). Before the
   *  first false after events were dropped, an event `events_lost` tells how many. */
  bool pop(Event* event) noexcept;

  /** Events that did not fit since the start (or the fork), any thread. */
  uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed); }

  /** In the child of fork only: empties the ring, with whatever the parent's threads were writing.
   */
  void reset_after_fork() noexcept;

 private:
  struct alignas(64) Slot {
    /* 2t: empty, for the writer of turn t; 2t + 1: full, for the reader of turn t. */
    std::atomic<uint64_t> turn{0};
    Event event;
  };

  Slot slots_[kCapacity];
  alignas(64) std::atomic<uint64_t> head_{0}; /* next position to write */
  alignas(64) std::atomic<uint64_t> tail_{0}; /* next position to read */
  alignas(64) std::atomic<uint64_t> dropped_{0};
  std::atomic<uint64_t> untold_{0};      /* dropped, and not yet given out as events_lost */
  std::atomic<int64_t> last_dropped_{0}; /* time of one of them, ns */

  bool take_lost(Event* event) noexcept;
};

/** This process's ring. In no signal handler: in a child of fork it waits for whoever forgets the parent's events. */
EventRing& process_events() noexcept;

/** In the child of fork: what is in the ring is the parent's. */
void forget_events_after_fork() noexcept;

/** Adds an event with the time of now to this process's ring, as push() does; errno is kept. Reads the clock (vDSO). */
bool emit(EventKind kind, int64_t arg0 = 0, int64_t arg1 = 0, int64_t arg2 = 0,
          int64_t arg3 = 0) noexcept;

/** Who knows the names that events have numbers for. Each may be null, and may return null: then the number stands
 *  alone. For format_event() and say_event(), on their thread. */
struct EventNames {
  const char* (*hook)(int64_t slot) = nullptr;
  const char* (*adapter)(int64_t index) = nullptr;
  /** Runtimes that no round asks, and why; "" when there is none. NUL-terminated; returns the length. */
  size_t (*left_out)(char* out, size_t cap) = nullptr;
  /** What this process holds of the bytes that an event has as paced, where those are of its whole container; negative:
   *  they are its own. */
  int64_t (*part_of_container)() = nullptr;
  /** Whether this is the process to say it in words: what concerns a container one of its processes says. */
  bool (*may_say)(const Event& event) = nullptr;
  /** The allocation site that holds most of the heap, in words, and its bytes that are alive; 0: it is not known. */
  int64_t (*first_site)(TextWriter& out) = nullptr;
};

/**
 * One line without a newline: "event=round time_ns=812345 round=7 wanted=1048576 freed=0
 * duration_ns=81000". Stable: keys keep their names and order, and new ones come last. A hook is
 * "slot=3", followed by "hook=NAME" when `names` knows it, with bytes outside printable ASCII and
 * blanks as \ooo; an adapter is its name, or "?". Returns the bytes written without the NUL; 256 hold any
 * event. Threads: any. Allocates: no.
 */
size_t format_event(const Event& event, const EventNames& names, char* out, size_t cap) noexcept;

/** "round", the level its line has in the log, its sentence. */
const char* event_name(EventKind kind) noexcept;
LogLevel event_level(EventKind kind) noexcept;
const char* event_sentence(EventKind kind) noexcept;

}  // namespace memlimit
