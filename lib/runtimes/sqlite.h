/* SQLite, from a shared library: page caches that stop growing where rounds begin, and are emptied when
 * a round asks.
 *
 * Answers for: knowing the open connections (the preload layer sees them opened and closed), a soft heap
 * limit that follows the limit unless the program has set one itself, and an ASYNC hook that releases the
 * memory of connections that are not in use. Only connections with a mutex are touched, and only while
 * nobody holds it. Refuses to open, to close and to look into the database.
 * Threads: opened() and closing() on the program's threads, outside malloc; the hook on the service thread.
 */
#pragma once

#include "engine/fork.h"
#include "engine/service.h"
#include "settings/config.h"

namespace memlimit::runtimes::sqlite {

/** sqlite3*: only ever handed back to SQLite. */
using Connection = void;

/** Once, from the constructor. */
void configure(const Config& config) noexcept;

/** A connection was opened by the function at this address. Finds SQLite's other functions in the same
 *  image; leaves its cache alone when one of them is missing, or too many are open, or it is not usable: its
 *  opening failed, and it is there for the message and to be closed. */
void opened(Connection* connection, const void* open_function, bool usable) noexcept;

/** It is about to be closed: waits while the service thread has it in use (milliseconds), then forgets it.
 *  Returns the function that opened it, or nullptr when it is not known. When closing fails, it is
 *  opened() again. */
const void* closing(Connection* connection, bool* usable) noexcept;

/** Tells SQLite of a new limit. */
extern const service::Task kTask;

/** In the child SQLite forbids to go on with the parent's connections. */
extern const fork::Part kForkPart;

}  // namespace memlimit::runtimes::sqlite
