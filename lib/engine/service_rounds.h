/* The service thread's part in rounds: looks that were left to it, purges for all threads, passes of the ASYNC hooks.
 *
 * Threads: the service thread alone.
 */
#pragma once

#include "engine/service.h"

namespace memlimit::service_rounds {

extern const service::Task kTask;

}  // namespace memlimit::service_rounds
