/* See backing.h. */
#include "backing.h"

#include <mimalloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "system/os.h"
#include "system/text.h"

namespace memlimit::backing {
namespace {

/* Options go by number, which means another one in another version; and the program may be linked with that. */
bool options_are_known() noexcept {
  constexpr int kRenamed = 212;
  const int version = mi_version();
  return version / 100 == MI_MALLOC_VERSION / 100 &&
         (version < kRenamed) == (MI_MALLOC_VERSION < kRenamed);
}

bool address_space_is_limited() noexcept {
  rlimit limit{};
  return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

int numa_nodes() noexcept {
  constexpr int kMostNodes = 256;
  int nodes = 1;
  for (; nodes < kMostNodes; ++nodes) {
    char path[48];
    TextWriter(path, sizeof path).put("/sys/devices/system/node/node").put_int(nodes);
    if (access(path, R_OK) != 0) break;
  }
  return nodes;
}

}  // namespace

void* map_region(size_t bytes, size_t alignment) noexcept {
  os::ErrnoGuard guard;
  void* const region = address_space_is_limited() ? nullptr : mi_malloc_aligned(bytes, alignment);
  if (region == nullptr) return heap::kernel_pages::map(bytes, alignment);
  // mimalloc may have had the pages before. Dropped they are zero, and not resident. Not by madvise(), which is this
  // library's own.
  if (syscall(SYS_madvise, region, bytes, MADV_DONTNEED) == 0) return region;
  mi_free(region);
  return heap::kernel_pages::map(bytes, alignment);
}

void unmap_region(void* address, size_t bytes) noexcept {
  os::ErrnoGuard guard;
  if (!release_if_own(address)) heap::kernel_pages::unmap(address, bytes);
}

bool release_if_own(void* block) noexcept {
  if (!mi_is_in_heap_region(block)) return false;
  mi_free(block);
  return true;
}

size_t usable_if_own(const void* block) noexcept {
  return mi_is_in_heap_region(block) ? mi_usable_size(block) : 0;
}

void set_options() noexcept {
  if (!options_are_known()) return;
  mi_option_set_default(mi_option_use_numa_nodes, numa_nodes());
  mi_option_set_default(mi_option_large_os_pages, 0);
}

}  // namespace memlimit::backing
