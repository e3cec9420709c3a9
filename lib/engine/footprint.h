/* When the process's footprint is read, and whether it is over the limit though usage is not.
 *
 * Refuses to know how it is read and what is made of it (paced.h). Threads: all, inside malloc too; errno is kept.
 */
#pragma once

#include <cstdint>

#include "engine/fork.h"
#include "pacing/touch_interval.h"

namespace memlimit::footprint {

/** Room that the container leaves above the limit, of which a purge may take its time (purge_pacer.h). */
int64_t slack_bytes(int64_t limit_bytes) noexcept;

/** Reads it now. */
void read() noexcept;

/** Reads it once for this much that the program takes or gives back: a 64th of the headroom, within 1 and 16 MiB. */
void read_if_due() noexcept;

/** The program has given back so much: it is read again the sooner. */
void due_sooner(int64_t bytes) noexcept;

/** The footprint presses, and no purge brings it down: from now on it is paced, until it has fallen. */
void is_over(int64_t limit_bytes) noexcept;

/** Of the last reading, what decides whether memory that is mapped can pass the limit without a call (touch_interval.h);
 *  without the two clocks. A limit of 0 where the footprint is not paced and no runtime grows unseen. */
TouchSight touch_sight() noexcept;

/** Whether a reading that shows that it can is to wake the service thread; once. */
void wake_when_unseen(bool wanted) noexcept;

/** RssAnon, read again when the last reading is older than that; bytes. */
int64_t rss_anon_bytes(int64_t max_age_ns) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::footprint
