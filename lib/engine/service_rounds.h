/* The service thread's part in rounds: looks that were left to it, purges for all threads, passes of the ASYNC hooks.
 *
 * Threads: the service thread; looks and purges, while it is away in a pass, the one that stands in for it.
 */
#pragma once

#include "engine/service.h"

namespace memlimit::service_rounds {

/* In this order: a look may find that a pass is due, and threads wait for passes rather than for purges. */
extern const service::Task kLookTask;
extern const service::Task kPassTask;
extern const service::Task kPurgeTask;

}  // namespace memlimit::service_rounds
