/* The heap profile as text: the form that google-pprof, jeprof and `go tool pprof` read.
 *
 * A head, a line a site ("live blocks: live bytes [blocks ever: bytes ever] @ addresses"), and the maps by which they find
 * symbols. The figures are scaled already, block size by block size, which is more exact than what a reader could do with a
 * site's sums: so the head calls them a `heapprofile`, which readers take as it stands.
 *
 * Frames of interpreted languages have addresses that no code has, and a section SCRIPT_FRAMES behind the maps that names
 * them; other tools show the addresses.
 *
 * Threads: any; sites go on counting meanwhile. Allocates nothing; maps pages to sort in.
 */
#pragma once

#include <cstddef>

#include "profile/labels.h"
#include "profile/sites.h"

namespace memlimit::profile {

/** Where a site stands that has no room in the text, and one whose stack was not kept: no code lies there. */
inline constexpr uintptr_t kOtherSites = 0x1, kUnknownStack = 0x2;

/** Largest sites first; those that do not fit are summed up in one line. `maps`: a file like /proc/self/maps. Whole lines only.
 *  Returns the length without the NUL. */
size_t render_profile(const Sites& sites, const Labels& labels, const char* maps, char* buffer,
                      size_t cap) noexcept;

}  // namespace memlimit::profile
