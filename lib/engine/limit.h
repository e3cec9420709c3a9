/* Setting the limit in force, and what follows from a new one.
 *
 * Answers for: that everybody who goes by the limit hears of a change, and that a look follows at once. Refuses to resolve
 * what was written (limit_setting.h), and to be read on the fast path (pressure.h). Threads: any; errno is kept.
 */
#pragma once

#include <cstdint>

#include "observe/event_ring.h"

namespace memlimit::limit {

/** Sets it (0 or less: off) and looks at once. `text` says where it came from, for the statistics; copied.
 *  Returns the old one. */
int64_t set(int64_t bytes, LimitSource source, const char* text) noexcept;

/** The same, if `from` is what is in force; false: it is not, and nothing was done. */
bool replace(int64_t from, int64_t bytes, LimitSource source, const char* text) noexcept;

}  // namespace memlimit::limit
