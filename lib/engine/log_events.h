/* The service thread's part in events: takes them out of the ring, and turns each into a line of the log and a line for
 * whoever reads the socket's `events`; and MEMLIMIT_REPORT's line every so often.
 *
 * Refuses to decide which lines go where: observe/log.h. Threads: configure() at start; the tasks on the service thread.
 */
#pragma once

#include "engine/fork.h"
#include "engine/service.h"
#include "settings/config.h"

namespace memlimit::log_events {

/** Once, at start. The Config must live for ever. */
void configure(const Config& config) noexcept;

/** Opens the log, so it is registered before every task that writes to it; and reports. */
extern const service::Task kReportTask;

/** Tells what has happened. Registered last: an event that another task's turn caused would wait for the next. */
extern const service::Task kEventTask;

extern const fork::Part kForkPart;

}  // namespace memlimit::log_events
