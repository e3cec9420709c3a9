/* See page_source.h. */
#include "heap/page_source.h"

#include <atomic>

#include <cerrno>

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

/* A random multiple of 4 MiB in 16 TiB of address space that nobody else looks for: the kernel gives what is far above
 * (the program, its libraries and stacks), mimalloc asks for what is below 30 TiB, ZGC of a JVM for 4 to 48 and from
 * 64 TiB on. Where user space does not reach so far the kernel takes another place. */
[[maybe_unused]] uintptr_t lonely_address() noexcept {
  constexpr uintptr_t kFirst = uintptr_t{48} << 40;
  constexpr uintptr_t kPlaces = (uintptr_t{16} << 40) / kRegionBytes;
  uint64_t random = 0;
  if (syscall(SYS_getrandom, &random, sizeof random, GRND_NONBLOCK) != sizeof random) {
    // As random as where the kernel put the stack, and the time.
    random = (reinterpret_cast<uintptr_t>(&random) >> 4) * 0x9e3779b97f4a7c15 ^
             static_cast<uint64_t>(os::monotonic_ns());
  }
  return kFirst + random % kPlaces * kRegionBytes;
}

void tell_nobody(const News&) noexcept {}
void look_at_nothing(uint64_t) noexcept {}
void keep_foreign(void*) noexcept {}
size_t unknown_size(const void*) noexcept { return 0; }
void do_without() noexcept {}
bool cannot_arm() noexcept { return false; }
int64_t now_ms() noexcept { return os::monotonic_ns() / 1'000'000; }

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

void* begin(size_t bytes) noexcept {
#if MEMLIMIT_THREAD_SANITIZER
  (void)bytes;  // what it keeps for itself lies anywhere
  return nullptr;
#else
  void* const address = address_of(lonely_address());
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
