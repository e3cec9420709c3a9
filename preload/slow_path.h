/* The cold halves of the entry points: what happens when a counter reached its mark, or memory is out. */
#pragma once

#include <cstddef>

#include "attributes.h"

namespace memlimit::slow {

/** The block is allocated but not counted yet. Counts it, publishes, looks whether a round is due.
 *  Returns `block`. errno is preserved. */
MEMLIMIT_COLD void* allocated(void* block, size_t usable_bytes) noexcept;

/** The block is neither counted as freed nor released yet; both are done here. errno is preserved. */
MEMLIMIT_COLD void freed(void* block, size_t usable_bytes) noexcept;

/** As freed(), for a block that the allocator has released already (the old half of a realloc). */
MEMLIMIT_COLD void freed_already(size_t usable_bytes) noexcept;

}  // namespace memlimit::slow
