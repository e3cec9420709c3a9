/* What is asked of the service thread and not done yet: passes of the ASYNC hooks, and looks.
 *
 * Answers for: that no request is lost, however many threads ask at once, and that who waits for a pass is woken.
 * Refuses to run anything (service_rounds.h), and to wake the service thread: whoever asks does. Threads: all, any
 * context; no lock.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fork.h"

namespace memlimit::requests {

/** Adds a request to those that wait in `wanted`: the larger counts. */
void ask_for(std::atomic<int64_t>& wanted, int64_t bytes) noexcept;

/** A round wants so much of the ASYNC hooks. It takes the place of what was wanted before: the pacer has one round
 *  under way. Threads near the limit begin to wait for it (assist.h). */
void want_pass(int64_t bytes) noexcept;

/** Somebody asks for so much by hand, whatever the pacer thinks. */
void want_explicit(int64_t bytes) noexcept;

/** Somebody found that more follows than could be done there. */
void want_look() noexcept;

/** Whether there is any, a look, or a pass. Atomic loads. */
bool any() noexcept;
bool any_look() noexcept;
bool any_pass() noexcept;

/** On the service thread: what is wanted, once. */
bool take_look() noexcept;

/** On the service thread, around whatever is taken in between: who waits sees that it is under way. */
void begin_pass() noexcept;
int64_t take_pass() noexcept;
int64_t take_explicit() noexcept;
void end_pass() noexcept;

/** Waits until nothing is asked for by hand and no pass is under way, or for so long from `began_ns` on. */
void wait_for_explicit(int64_t began_ns, int64_t longest_ns) noexcept;

/** The child has nobody who would serve what the parent's threads asked for. */
extern const fork::Part kForkPart;

}  // namespace memlimit::requests
