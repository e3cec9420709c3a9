/* What the allocator holds, as programs that ask their malloc want to know it.
 * Threads: any; no lock, no allocation; reads /proc.
 */
#pragma once

#include <algorithm>
#include <cstddef>

#include "engine/account.h"
#include "system/procfs.h"

namespace memlimit {

struct HeapFigures {
  size_t live; /* bytes of live blocks */
  size_t held; /* what the process holds for them: footprint, at least `live` */
  size_t peak; /* most bytes of live blocks there ever were */
};

inline HeapFigures heap_figures() noexcept {
  const int64_t live = std::max<int64_t>(account::totals().heap_bytes(), 0);
  account::note_peak(live);
  const int64_t footprint = procfs::footprint_bytes();
  return {static_cast<size_t>(live), static_cast<size_t>(std::max(live, footprint)),
          static_cast<size_t>(account::heap_peak_bytes())};
}

}  // namespace memlimit
