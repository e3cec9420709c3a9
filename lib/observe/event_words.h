/* What an operator is told on standard error: a few events as sentences, each with the figures behind it and what would help.
 *
 * Refuses to say what is not known: which number is paced decides what "remains", so it is not called live, or heap. Pure;
 * threads: any; allocates nothing.
 */
#pragma once

#include <cstddef>

#include "observe/event_ring.h"

namespace memlimit {

/** Whether people are told of events of this kind in words: by say_event(), or by whoever emits them. */
bool has_words(EventKind kind) noexcept;

/** The sentence, NUL-terminated; 0 and "" for a kind that has none here. Returns the bytes written without the NUL; 960
 *  hold any. */
size_t say_event(const Event& event, const EventNames& names, char* out, size_t cap) noexcept;

}  // namespace memlimit
