/* The service thread's looks at memory that grows without one call: a heap that is mapped already, and touched.
 *
 * Answers for: looks only where the limit could be passed that way, as often as lib/pacing/touch_interval.h says. Refuses
 * to read the footprint (footprint.h) and to decide what follows (look.h).
 * Threads: the service thread.
 */
#pragma once

#include "engine/service.h"

namespace memlimit::footprint_watch {

/** While the footprint is what counts, or a runtime takes part whose heap grows unseen. */
extern const service::Task kTask;

}  // namespace memlimit::footprint_watch
