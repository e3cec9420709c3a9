/* The site that holds most of what is sampled, in words: for the line that says that a limit cannot be held.
 *
 * Refuses to find symbols: a frame of the machine is its image and the offset there, which addr2line takes.
 *
 * Threads: the service thread. Allocates nothing.
 */
#pragma once

#include <cstdint>

#include "profile/labels.h"
#include "profile/sites.h"
#include "system/text.h"

namespace memlimit::profile {

/** "render /srv/service.py:17 < page /srv/service.py:22", or "server+0x1a2b < server+0x1100": the innermost functions of an
 *  interpreted language where there are any, else the innermost frames that are not in the C or C++ library. Returns the
 *  bytes that are alive of the site; 0: nothing is sampled, or its stack is not known, and nothing is written. `maps`: a file
 *  like /proc/self/maps; that it cannot be read leaves bare addresses. */
int64_t put_first_site(TextWriter& out, const Sites& sites, const Labels& labels,
                       const char* maps) noexcept;

}  // namespace memlimit::profile
