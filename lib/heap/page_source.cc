/* See page_source.h. */
#include "heap/page_source.h"

#include <atomic>

#include <cerrno>

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap/address_map.h"
#include "heap/size_classes.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::heap {
namespace {

void* address_of(uintptr_t number) noexcept { return reinterpret_cast<void*>(number); }

void* map_aligned(size_t bytes, size_t alignment, int protection) noexcept {
  os::ErrnoGuard guard;
  size_t whole_bytes = 0;
  if (__builtin_add_overflow(bytes, alignment, &whole_bytes)) return nullptr;
  const long mapped = syscall(SYS_mmap, nullptr, whole_bytes, protection,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
  if (mapped == -1) return nullptr;
  const auto begin = static_cast<uintptr_t>(mapped);
  const uintptr_t aligned = (begin + alignment - 1) & ~(alignment - 1);
  if (aligned > begin) kernel_pages::unmap(address_of(begin), aligned - begin);
  const uintptr_t end = begin + whole_bytes;
  // From a page of the kernel on: it refuses any other address.
  const uintptr_t in_page = static_cast<uintptr_t>(os::page_bytes()) - 1;
  const uintptr_t rest = (aligned + bytes + in_page) & ~in_page;
  if (end > rest) kernel_pages::unmap(address_of(rest), end - rest);
  return address_of(aligned);
}

[[maybe_unused]] uint64_t random_number() noexcept {
  uint64_t random = 0;
  if (syscall(SYS_getrandom, &random, sizeof random, GRND_NONBLOCK) == sizeof random) return random;
  // As random as where the kernel put the stack, and the time.
  return (reinterpret_cast<uintptr_t>(&random) >> 4) * 0x9e3779b97f4a7c15 ^
         static_cast<uint64_t>(os::monotonic_ns());
}

/* Where the kernel has put the program itself, by the auxiliary vector; 0 when it does not say, or when the loader is the
 * program (ld.so PROGRAM): that one lies where mappings go. */
[[maybe_unused]] uintptr_t program_address() noexcept {
  return getauxval(AT_BASE) != 0 ? getauxval(AT_PHDR) : 0;
}

void tell_nobody(const News&) noexcept {}
void look_at_nothing(uint64_t) noexcept {}
void keep_foreign(void*) noexcept {}
size_t unknown_size(const void*) noexcept { return 0; }
void do_without() noexcept {}
bool cannot_arm() noexcept { return false; }
int64_t now_ms() noexcept { return os::monotonic_ns() / 1'000'000; }

/* Programs of a fixed address lie below; those that may lie anywhere the kernel puts far above (ELF_ET_DYN_BASE: at two
 * thirds of user space, which has 512 GiB at least). */
constexpr uintptr_t kAnywhereElse = uintptr_t{1} << 36;

constexpr HeapOps kNobody = {tell_nobody, look_at_nothing, keep_foreign, unknown_size,
                             do_without,  cannot_arm,      now_ms};

// Relaxed loads: what they point to is constant.
constinit std::atomic<const PageSource*> source{nullptr};
constinit std::atomic<const HeapOps*> ops{nullptr};

}  // namespace

namespace kernel_pages {

void* map(size_t bytes, size_t alignment) noexcept {
  return map_aligned(bytes, alignment, PROT_READ | PROT_WRITE);
}

void unmap(void* address, size_t bytes) noexcept {
#if MEMLIMIT_THREAD_SANITIZER
  // It must see that what another thread maps there afterwards is new.
  munmap(address, bytes);
#else
  os::unmap_pages(address, bytes);
#endif
}

void* resize(void* address, size_t old_bytes, size_t new_bytes, bool may_move) noexcept {
  os::ErrnoGuard guard;
  if (syscall(SYS_mremap, address, old_bytes, new_bytes, 0, nullptr) != -1) return address;
  if (!may_move) return nullptr;
  // Where to is reserved first: the kernel would align it to a page only.
  void* const there = map_aligned(new_bytes, kSliceBytes, PROT_NONE);
  if (there == nullptr) return nullptr;
  if (syscall(SYS_mremap, address, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there) !=
      -1) {
    return there;
  }
  unmap(there, new_bytes);
  return nullptr;
}

uintptr_t lonely_address(uintptr_t program, uint64_t random) noexcept {
  // What one page of the third level maps, on x86-64 as on arm64 with pages of 4 KiB.
  constexpr uintptr_t kSharedBytes = uintptr_t{1} << 30;
  constexpr uintptr_t kFewestPlaces = 16;
  if (program >= kAnywhereElse) {
    uintptr_t first = program & ~(kSharedBytes - 1);
    uintptr_t places = (program - first) / kRegionBytes;
    if (places < kFewestPlaces) {
      first -= kSharedBytes;
      places = kSharedBytes / kRegionBytes;
    }
    return first + random % places * kRegionBytes;
  }
  constexpr uintptr_t kFirst = uintptr_t{48} << 40;
  constexpr uintptr_t kPlaces = (uintptr_t{16} << 40) / kRegionBytes;
  return kFirst + random % kPlaces * kRegionBytes;
}

void* begin(size_t bytes) noexcept {
#if MEMLIMIT_THREAD_SANITIZER
  (void)bytes;  // what it keeps for itself lies anywhere
  return nullptr;
#else
  void* const address = address_of(lonely_address(program_address(), random_number()));
  return map_at(address, bytes) ? address : nullptr;
#endif
}

bool map_at(void* address, size_t bytes) noexcept {
  os::ErrnoGuard guard;
  const long mapped =
      syscall(SYS_mmap, address, bytes, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0L);
  if (mapped == -1) return false;
  if (mapped == reinterpret_cast<long>(address)) return true;
  // Linux before 4.17 knows the address as a wish only.
  unmap(reinterpret_cast<void*>(mapped), bytes);
  return false;
}

}  // namespace kernel_pages

void set_page_source(const PageSource* other) noexcept { source.store(other); }
void set_heap_ops(const HeapOps* other) noexcept { ops.store(other); }

const PageSource& page_source() noexcept {
  if (const PageSource* const set = source.load(std::memory_order_relaxed)) return *set;
  return &page_source_at_start != nullptr ? page_source_at_start : kKernelPages;
}

const HeapOps& heap_ops() noexcept {
  if (const HeapOps* const set = ops.load(std::memory_order_relaxed)) return *set;
  return &heap_ops_at_start != nullptr ? heap_ops_at_start : kNobody;
}

}  // namespace memlimit::heap
