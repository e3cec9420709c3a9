/* See idle_pages.h. Rests on four facts about mimalloc 2.0: segments are 32 MiB and aligned to that; they
 * begin with a header, so no page lies in the first slice (64 KiB) of one; all pages of a segment belong to
 * the heaps of one thread, and this process has one heap a thread; what lies outside of pages is written
 * before it is read. So it may be dropped without the allocator's knowledge. */
#include "idle_pages.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <mimalloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backing.h"
#include "engine/account.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::idle_pages {
namespace {

constinit std::atomic<bool> off{false};

/* Later versions do that themselves, and 3 has no segments. Which one runs is known at run time only: a program that is
 * linked with another version brings its own. */
constexpr int kFirstVersionThatDoes = 212;

constexpr size_t kSliceBytes = size_t{64} << 10;
constexpr size_t kSegmentBytes = size_t{32} << 20;
constexpr size_t kSlices = kSegmentBytes / kSliceBytes;
/* The header takes one slice; two where the allocator was built with guard pages. */
constexpr size_t kHeaderSlices = 2;

struct Segment {
  uintptr_t begin = 0; /* 0: the entry is free */
  bool strange = false;
  uint64_t used[kSlices / 64] = {};

  void use(size_t slice) noexcept { used[slice / 64] |= uint64_t{1} << slice % 64; }
  bool uses(size_t slice) const noexcept { return (used[slice / 64] >> slice % 64 & 1) != 0; }
};

/* By address, with linear probing. Segments beyond this many (32 GiB) keep what they have. */
constexpr size_t kEntries = 1024;

/* Looking at every page of a heap of 400 MB takes a millisecond, so something must have been freed since the
 * last time, by whatever thread: this much, and this part of what the thread holds. */
constexpr int64_t kLeastFreedBytes = int64_t{256} << 10;
constexpr int64_t kFreedDivisor = 64;

MEMLIMIT_TLS int64_t freed_at_last_look = 0;

struct Table {
  Segment segments[kEntries];

  Segment* entry_for(uintptr_t begin) noexcept {
    size_t at = begin / kSegmentBytes % kEntries;
    for (size_t i = 0; i < kEntries; ++i, at = (at + 1) % kEntries) {
      Segment& segment = segments[at];
      if (segment.begin == 0) segment.begin = begin;
      if (segment.begin == begin) return &segment;
    }
    return nullptr;
  }
};

bool note_page(const mi_heap_t*, const mi_heap_area_t* area, void*, size_t, void* arg) {
  if (area == nullptr || area->blocks == nullptr) return true;
  const auto blocks = reinterpret_cast<uintptr_t>(area->blocks);
  Segment* const segment =
      static_cast<Table*>(arg)->entry_for(blocks / kSegmentBytes * kSegmentBytes);
  if (segment == nullptr) return true;
  const size_t first = (blocks - segment->begin) / kSliceBytes;
  // A block that is aligned to more than a segment lies in one of its own, not at its beginning; a huge
  // one fills one of its own.
  if (first == 0 || area->reserved > kSegmentBytes / 2) segment->strange = true;
  const uintptr_t end = blocks + area->reserved;
  for (size_t slice = first; slice < kSlices && segment->begin + slice * kSliceBytes < end;
       ++slice) {
    segment->use(slice);
  }
  return true;
}

void drop_unused(const Segment& segment) noexcept {
  for (size_t slice = kHeaderSlices; slice < kSlices; ++slice) {
    if (segment.uses(slice)) continue;
    const size_t first = slice;
    while (slice < kSlices && !segment.uses(slice)) ++slice;
    // Not by the library's own madvise(), which would take it for the program's.
    syscall(SYS_madvise, segment.begin + first * kSliceBytes, (slice - first) * kSliceBytes,
            MADV_DONTNEED);
  }
}

}  // namespace

void turn_off() noexcept { off.store(true, std::memory_order_relaxed); }

void release() noexcept {
  if (off.load(std::memory_order_relaxed) || backing::version() >= kFirstVersionThatDoes) return;
  const int64_t freed = account::published_freed_bytes();
  // What others freed of the thread's blocks it holds no more, and does not know.
  const int64_t held = std::min(-account::own_net_freed(), account::published_usage_bytes());
  const int64_t least = held / kFreedDivisor;
  if (freed - freed_at_last_look < std::max(kLeastFreedBytes, least)) return;
  freed_at_last_look = freed;
  os::ErrnoGuard errno_guard;
  void* const memory = os::map_pages(sizeof(Table));
  if (memory == nullptr) return;
  auto* const table = static_cast<Table*>(memory);
  mi_heap_visit_blocks(mi_heap_get_default(), false, note_page, table);
  for (const Segment& segment : table->segments) {
    if (segment.begin != 0 && !segment.strange) drop_unused(segment);
  }
  os::unmap_pages(memory, sizeof(Table));
}

}  // namespace memlimit::idle_pages
