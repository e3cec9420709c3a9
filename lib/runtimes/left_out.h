/* Language runtimes that are in the process and that no round asks, and why: or a limit that cannot be held is a riddle.
 *
 * Answers for: their names in the statistics, an event for each, and the words behind a limit that is let go. Refuses to
 * attach anything (registry.h). Threads: as said for each function.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtimes/elf_image.h"
#include "runtimes/left_out_reason.h"
#include "system/text.h"

namespace memlimit::runtimes::left_out {

/** An adapter's runtime is there, and not attached; or it is attached now, kNone. By its place in kAdapters. An event, the
 *  first time. Threads: one at a time. Allocates: no. */
void note(size_t adapter, Why why) noexcept;

/** Looks in an image for runtimes that have no adapter. Threads: one at a time. Allocates: no. */
void look_at(const ElfImage& image) noexcept;

/** "cpython (MEMLIMIT_ADAPTERS leaves it out), php (no adapter)", or nothing. Threads: any. Allocates: no. */
void tell(TextWriter& out) noexcept;

/** The name behind an event's number, adapters first; nullptr: there is none. Threads: any. */
const char* name_of(int64_t index) noexcept;

}  // namespace memlimit::runtimes::left_out
