/* From what was written (512MiB, 80%, auto, off) to a limit in bytes, and following the container when
 * that is what was asked for.
 *
 * Answers for: resolving a percentage against the container's memory now and, for `auto`, again whenever
 * the container is resized. Refuses to parse (config.h) and to pace (pacer.h).
 * Threads: apply() and refresh() take turns by a lock of their own; container() may be read by all.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/fork.h"
#include "observe/event_ring.h"
#include "settings/config.h"
#include "system/cgroup.h"

namespace memlimit::limit_setting {

/** Puts the setting in force for whoever asked. About 12 KiB of stack. */
void apply(const LimitSetting& setting, LimitSource source) noexcept;

/** The same for MEMLIMIT, once, at start; and says at once, on standard error, if a share is of the machine's memory though
 *  the process is in a group, or too little to work in. MEMLIMIT_LOG=error leaves that out. */
void apply_at_start(const Config& config) noexcept;

/** Looks at the container again; changes the limit when it was resized and was taken from it. Not while another
 *  is in force that the program has set since (memlimit_set). */
void refresh() noexcept;

/** Whether there is anything to refresh(): the limit in force came from a percentage or `auto`, or the group's working set is
 *  paced. An atomic load; any thread. */
bool follows_container() noexcept;

/** The process's memory group; looked up by the first apply() of a percentage or `auto`, or of any limit with
 *  MEMLIMIT_ACCOUNT=cgroup, else empty. */
MemoryGroup& container() noexcept;

/** Once after every find and every change: a line on where the container's memory was read, and what was
 *  in the way. False when there is nothing new. `problem`: that is a problem of a setting, as apply() found
 *  it, or a share that has become too little; what else refresh() finds comes and goes with the program's descriptors. Allocates nothing. */
bool take_news(char* line, size_t cap, bool* problem) noexcept;

extern const fork::Part kForkPart;

}  // namespace memlimit::limit_setting
