/* Who takes part in rounds besides the hooks: language runtimes and libraries with memory of their own.
 *
 * Answers for: the table of functions by which the engine knows them, and asking all of them at once. Refuses to know
 * any of them by name (lib/runtimes registers, the engine asks), and to decide when.
 * Threads: add() at start; the others as said for each function of a Participant.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/hooks.h"
#include "observe/stats.h"
#include "system/text.h"

namespace memlimit {

/** What a participant can do; a null pointer is what it has no part in. Nothing here may wait for a lock that is held
 *  while a runtime reclaims. */
struct Participant {
  /** Whether it has a heap of its own in the process, which rounds can shrink. A few atomic loads; any thread. */
  bool (*present)() noexcept = nullptr;

  /** Whether a heap of its own grows for long without a call that the library sees. A few atomic loads; any thread. */
  bool (*grows_unseen)() noexcept = nullptr;

  /** A round wants bytes: takes it to the runtimes that are due, and asks the calling thread's. False when none is due;
   *  else the round ends when the first of them has arrived at its safe point, unless `ends_round` is false. In
   *  malloc's slow path. */
  bool (*begin_round)(const hooks::Pass& pass, int64_t began_ns,
                      bool ends_round) noexcept = nullptr;

  /** A look is due, and the thread that has mapped memory may not take it: has whoever comes to a safe point of its own do
   *  so there. Any thread, in the middle of anything. */
  void (*visit_soon)() noexcept = nullptr;

  /** On the slow path of any thread: asks its runtime for the round that is open, if there is one. */
  void (*ask_if_wanted)() noexcept = nullptr;

  /** Whether its task on the service thread (service.h) has anything to do. A few atomic loads; any thread, inside
   *  malloc too. */
  bool (*wants_service)() noexcept = nullptr;

  /** The limit is another one. Any thread that may set the limit. */
  void (*limit_changed)() noexcept = nullptr;

  /** Rows for the statistics, beside those of the hooks; returns how many. */
  size_t (*rows)(HookRow* out, size_t cap) noexcept = nullptr;
  hooks::Sums (*sums)() noexcept = nullptr;
  int (*count)() noexcept = nullptr;

  /** Whom of its kind no round asks, and why: "cpython (MEMLIMIT_ADAPTERS leaves it out)". A few atomic loads; any thread. */
  void (*left_out)(TextWriter& out) noexcept = nullptr;

  /** Its name for an event's argument; nullptr: not one of its numbers. */
  const char* (*name_of)(int64_t index) noexcept = nullptr;
};

namespace participants {

/** How many there may be. */
inline constexpr size_t kMax = 4;

/**
 * add() - lets a participant take part from now on
 * @participant: lives for ever
 *
 * Threads:   one at a time; others may be asking already
 * Context:   at start
 * Locks:     none
 * Allocates: no
 * Return:    false when the table is full, and it takes no part
 */
bool add(const Participant& participant) noexcept;

/** Of all of them, the functions of Participant: any() is whether one is present, grows_unseen() whether one does, begin_round() whether one will take
 *  part, wants_service() whether one does. Threads and context as there. */
bool any() noexcept;
bool grows_unseen() noexcept;
bool begin_round(const hooks::Pass& pass, int64_t began_ns, bool ends_round) noexcept;
void visit_soon() noexcept;
void ask_if_wanted() noexcept;
bool wants_service() noexcept;
void limit_changed() noexcept;
size_t rows(HookRow* out, size_t cap) noexcept;
hooks::Sums sums() noexcept;
int count() noexcept;

/** Of all of them, with commas between, NUL-terminated; returns the length. */
size_t left_out(char* out, size_t cap) noexcept;

/** "?" when nobody knows the number. */
const char* name_of(int64_t index) noexcept;

}  // namespace participants
}  // namespace memlimit
