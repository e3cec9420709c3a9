/* What a line passes through between Log::send() and Log::deliver(). There is one, and there may be none: then send() delivers
 * by itself, and the lines are the same.
 *
 * log_spdlog.cc is spdlog. log_direct.cc is none, for a library without a C++ runtime (preload/musl).
 * Threads: as log.h.
 */
#pragma once

#include "settings/config.h"

namespace memlimit {

class Log;
struct LogBackend; /* spdlog's side */

namespace log_backend {

/** A backend that gives its lines to `log`; nullptr: there is none, or no memory for it. */
LogBackend* open(Log* log) noexcept;

/** Frees it; nullptr is nothing. */
void close(LogBackend* backend) noexcept;

/** Passes a line on. False: it is lost. */
bool hand_over(LogBackend& backend, LogLevel level, const char* text) noexcept;

}  // namespace log_backend
}  // namespace memlimit
