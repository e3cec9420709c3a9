/* The service thread's looks at the memory group: has the container been resized, and what have others filled of it.
 *
 * Answers for: looks that come fast while the group moves and rarely while it does not (pacing/idle_interval.h), and a look
 * soon after the program has begun to work (program_work.h). Refuses to read the group (limit_setting.h, look.h) and to decide how long.
 * Threads: the service thread.
 */
#pragma once

#include "engine/fork.h"
#include "engine/service.h"

namespace memlimit::group_watch {

/** While the limit in force came from a percentage or `auto`, or the group's working set is paced; news of the container go
 *  to the log. */
extern const service::Task kTask;

extern const fork::Part kForkPart;

}  // namespace memlimit::group_watch
