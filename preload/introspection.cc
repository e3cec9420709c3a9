/* glibc's questions to its malloc, answered with our numbers: mallinfo, malloc_stats, malloc_info,
 * malloc_trim, mallopt. They report what `stat` on the socket reports.
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

}  // namespace

extern "C" {

MEMLIMIT_EXPORT struct mallinfo2 mallinfo2() noexcept {
  const HeapFigures now = heap_figures();
  struct mallinfo2 info {};
  info.arena = now.held;
  info.uordblks = now.live;
  info.fordblks = now.held - now.live;
  info.usmblks = now.peak;
  info.keepcost = info.fordblks;
  return info;
}

// glibc marks its own declaration as deprecated; programs call it all the same.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

MEMLIMIT_EXPORT struct mallinfo mallinfo() noexcept {
  const HeapFigures now = heap_figures();
  struct mallinfo info {};
  info.arena = saturated(now.held);
  info.uordblks = saturated(now.live);
  info.fordblks = saturated(now.held - now.live);
  info.usmblks = saturated(now.peak);
  info.keepcost = info.fordblks;
  return info;
}

MEMLIMIT_EXPORT struct mallinfo __libc_mallinfo() noexcept { return mallinfo(); }

/* The shape of glibc's: one heap, then the totals. */
MEMLIMIT_EXPORT int malloc_info(int options, FILE* stream) noexcept {
  if (options != 0) return EINVAL;
  const HeapFigures now = heap_figures();
  const size_t idle = now.held - now.live;
  // Writing to a stream is a cancellation point; unwinding cannot leave a noexcept function.
  int cancel_state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  const int put = fprintf(
      stream,
      "<malloc version=\"1\">\n"
      "<heap nr=\"0\">\n<sizes>\n</sizes>\n"
      "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
      "<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
      "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
      "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n</heap>\n"
      "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
      "<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
      "<total type=\"mmap\" count=\"0\" size=\"0\"/>\n"
      "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
      "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n"
      "</malloc>\n",
      idle, now.held, std::max(now.held, now.peak), now.held, now.held, idle, now.held,
      std::max(now.held, now.peak), now.held, now.held);
  const int error = errno;
  pthread_setcancelstate(cancel_state, nullptr);
  return put < 0 ? error : 0;
}

MEMLIMIT_EXPORT void malloc_stats() noexcept {
  const HeapFigures now = heap_figures();
  char text[256];
  const int length =
      snprintf(text, sizeof text,
               "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
               "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
               "max mmap regions = %10u\nmax mmap bytes   = %10u\n",
               now.held, now.live, now.held, now.live, 0U, 0U);
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
