/* See backing.h: without mimalloc, which musl's library is not linked with. Every region is the kernel's, and no block is
 * anybody else's. */
#include "backing.h"

namespace memlimit::backing {

void* map_region(size_t bytes, size_t alignment) noexcept {
  return heap::kernel_pages::map(bytes, alignment);
}

void unmap_region(void* address, size_t bytes) noexcept {
  heap::kernel_pages::unmap(address, bytes);
}

bool release_if_own(void*) noexcept { return false; }

size_t usable_if_own(const void*) noexcept { return 0; }

void set_options() noexcept {}

}  // namespace memlimit::backing
