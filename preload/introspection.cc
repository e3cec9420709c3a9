/* glibc's questions to its malloc, answered with our numbers: mallinfo, malloc_stats, malloc_info,
 * malloc_trim, mallopt. They report what `stat` and `heap` on the socket report.
 */
#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>

#include "engine/explicit_reclaim.h"
#include "figures.h"
#include "system/attributes.h"
#include "system/os.h"

using namespace memlimit;

namespace {

/* mallinfo's fields are int; glibc lets them wrap, which helps nobody. */
int saturated(size_t value) noexcept {
  return value > size_t{INT_MAX} ? INT_MAX : static_cast<int>(value);
}

/* glibc's names for what the heap has. `arena` and what is mmapped are address space; its blocks in use are all blocks
 * here, those with mappings of their own too, so that one field is stat's heap_alloc. */
struct mallinfo2 info_of(const HeapReport& now) noexcept {
  struct mallinfo2 info {};
  info.arena = now.region_bytes;
  info.ordblks = now.cached_blocks + now.free_blocks + now.free_slices;
  info.smblks = now.cached_blocks;
  info.hblks = now.huge.blocks;
  info.hblkhd = now.huge.mapped_bytes;
  info.usmblks = now.peak_bytes;
  info.fsmblks = now.cached_bytes;
  info.uordblks = now.live_bytes;
  info.fordblks = now.idle_bytes();
  info.keepcost = now.purgeable_bytes;
  return info;
}

/* Of a report's XML. Sizes that a reader takes for used less free: so what serves neither (the end of a slice behind its
 * last block) is address space only. */
class Xml {
 public:
  explicit Xml(FILE* stream) noexcept : stream_(stream) {}

  bool report(const HeapReport& now, const HeapClasses& classes) noexcept {
    put("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n");
    for (unsigned i = 1; i <= heap::kSmallClasses; ++i) {
      const size_t count = static_cast<size_t>(classes[i].free_blocks + classes[i].cached_blocks);
      size(heap::kClasses[i - 1].block_bytes + size_t{1}, classes[i].block_bytes, count);
    }
    size(heap::kSliceBytes, heap::kSliceBytes, now.free_slices);
    put("</sizes>\n");
    // Those with mappings of their own belong to no heap.
    HeapReport in_regions = now;
    in_regions.live_bytes -= std::min(now.huge.bytes, now.live_bytes);
    in_regions.peak_bytes = 0;
    sums(in_regions, now.region_bytes);
    put("</heap>\n");
    sums(now, now.region_bytes + now.huge.mapped_bytes, true);
    put("</malloc>\n");
    return good_;
  }

 private:
  void put(const char* text) noexcept { good_ = good_ && fputs(text, stream_) >= 0; }

  template <typename... Values>
  void put(const char* format, Values... values) noexcept {
    good_ = good_ && fprintf(stream_, format, values...) >= 0;
  }

  /* Free blocks of these sizes, where there are any. */
  void size(size_t from, size_t to, size_t count) noexcept {
    if (count == 0) return;
    put("  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", from, to, count * to,
        count);
  }

  void sums(const HeapReport& now, size_t mapped, bool with_huge = false) noexcept {
    const size_t used_and_free = now.live_bytes + now.idle_bytes();
    put("<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n", now.cached_blocks, now.cached_bytes);
    put("<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", now.free_blocks + now.free_slices,
        now.free_bytes + now.slice_bytes());
    if (with_huge)
      put("<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", now.huge.blocks,
          now.huge.mapped_bytes);
    put("<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n",
        used_and_free, std::max(used_and_free, now.peak_bytes));
    put("<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n", mapped,
        mapped);
  }

  FILE* stream_;
  bool good_ = true;
};

}  // namespace

extern "C" {

MEMLIMIT_EXPORT struct mallinfo2 mallinfo2() noexcept { return info_of(heap_report()); }

// glibc marks its own declaration as deprecated; programs call it all the same.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

MEMLIMIT_EXPORT struct mallinfo mallinfo() noexcept {
  const struct mallinfo2 now = info_of(heap_report());
  struct mallinfo info {};
  info.arena = saturated(now.arena);
  info.ordblks = saturated(now.ordblks);
  info.smblks = saturated(now.smblks);
  info.hblks = saturated(now.hblks);
  info.hblkhd = saturated(now.hblkhd);
  info.usmblks = saturated(now.usmblks);
  info.fsmblks = saturated(now.fsmblks);
  info.uordblks = saturated(now.uordblks);
  info.fordblks = saturated(now.fordblks);
  info.keepcost = saturated(now.keepcost);
  return info;
}

MEMLIMIT_EXPORT struct mallinfo __libc_mallinfo() noexcept { return mallinfo(); }

/* The shape of glibc's: one heap with its free blocks by size, then the totals. */
MEMLIMIT_EXPORT int malloc_info(int options, FILE* stream) noexcept {
  if (options != 0) return EINVAL;
  // Before anything is written: the stream may allocate.
  HeapClasses classes;
  const HeapReport now = heap_report(classes);
  // Writing to a stream is a cancellation point; unwinding cannot leave a noexcept function.
  int cancel_state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  const bool written = Xml(stream).report(now, classes);
  const int error = errno;
  pthread_setcancelstate(cancel_state, nullptr);
  return written ? 0 : error;
}

MEMLIMIT_EXPORT void malloc_stats() noexcept {
  const HeapReport now = heap_report();
  const size_t huge = now.huge.bytes;
  char text[320];
  const int length =
      snprintf(text, sizeof text,
               "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
               "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
               "max mmap regions = %10zu\nmax mmap bytes   = %10zu\n",
               now.region_bytes, now.live_bytes - std::min(huge, now.live_bytes),
               now.region_bytes + now.huge.mapped_bytes, now.live_bytes, now.huge.most_blocks,
               now.huge.most_bytes);
  // Standard error is where glibc writes it, and asking for it is the only reason to get it.
  if (length > 0) os::write_all(2, text, static_cast<size_t>(length));
}

/* Gives idle pages back now. `pad` concerns the top of glibc's main heap, which does not exist here. */
MEMLIMIT_EXPORT int malloc_trim(size_t) noexcept {
  return explicit_reclaim::purge_now() > 0 ? 1 : 0;
}

/* Every tunable concerns an arena, bin or threshold of glibc's that does not exist here. Accepted, so
 * that programs that check the answer go on, except for values glibc itself refuses. */
MEMLIMIT_EXPORT int mallopt(int parameter, int value) noexcept {
  constexpr int kMaxFastBytes = 80 * sizeof(size_t) / 4;
  constexpr int kMaxMmapThreshold = 32 << 20;
  if (parameter == M_MXFAST) return value >= 0 && value <= kMaxFastBytes ? 1 : 0;
  if (parameter == M_MMAP_THRESHOLD) return value <= kMaxMmapThreshold ? 1 : 0;
  return 1;
}

MEMLIMIT_EXPORT int __libc_mallopt(int parameter, int value) noexcept {
  return mallopt(parameter, value);
}

}  // extern "C"
