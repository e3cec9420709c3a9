/* See direct_use.h. */
#include "direct_use.h"

#include <cstring>

#include <dlfcn.h>
#include <link.h>
#include <mimalloc.h>

#include "block_size.h"
#include "idle_pages.h"
#include "recycled_blocks.h"
#include "system/os.h"

/* Where this library begins; the linker's. */
extern "C" MEMLIMIT_HIDDEN const ElfW(Ehdr) __ehdr_start;

namespace memlimit::direct_use {
namespace {

/* Whether an object is linked with libmimalloc. */
bool needs_allocator(const dl_phdr_info& info) noexcept {
  constexpr char kLibrary[] = "libmimalloc";
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    if (info.dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    dynamic = reinterpret_cast<const ElfW(Dyn)*>(info.dlpi_addr + info.dlpi_phdr[i].p_vaddr);
  }
  if (dynamic == nullptr) return false;
  const char* names = nullptr;
  for (const ElfW(Dyn)* entry = dynamic; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(entry->d_un.d_ptr);
  }
  if (names == nullptr) return false;
  for (const ElfW(Dyn)* entry = dynamic; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_NEEDED &&
        strncmp(names + entry->d_un.d_val, kLibrary, sizeof kLibrary - 1) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

void noticed() noexcept {
  block_size::look_at_every_block();
  idle_pages::turn_off();
  recycled_blocks::turn_off();
}

int look_at_object(dl_phdr_info* info, size_t, void*) noexcept {
  const bool ours = info->dlpi_addr == reinterpret_cast<uintptr_t>(&__ehdr_start);
  if (!ours && needs_allocator(*info)) noticed();
  return 0;
}

}  // namespace memlimit::direct_use

extern "C" {

/** As mimalloc's, which it calls. In front of it, since a second heap of a thread may come from any library. */
MEMLIMIT_EXPORT mi_heap_t* mi_heap_new() {
  memlimit::os::ErrnoGuard errno_guard;
  memlimit::direct_use::noticed();
  static const auto real = reinterpret_cast<mi_heap_t* (*)()>(dlsym(RTLD_NEXT, "mi_heap_new"));
  return real == nullptr ? nullptr : real();
}

}  // extern "C"
