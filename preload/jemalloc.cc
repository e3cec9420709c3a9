/* jemalloc's questions about the heap, answered with our numbers: mallctl and its MIBs, malloc_stats_print.
 *
 * A program that is linked with jemalloc has its blocks from us, and would be told about a jemalloc that lies idle:
 * redis-server makes its INFO, MEMORY PURGE and MALLOC-STATS of these. No name is handed on to a real jemalloc
 * that may be in the process: whatever that would say or do concerns no block. jemalloc_blocks.cc has the functions for
 * blocks, so what is allocated here is freed here.
 *
 * Threads: any, outside malloc.
 */
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "engine/pressure.h"
#include "jemalloc_figures.h"
#include "jemalloc_names.h"
#include "jemalloc_nodes.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/text.h"

using namespace memlimit;

namespace {

using jemalloc::Place;
using jemalloc::Request;

struct Figure {
  std::string_view name;
  size_t (*of)(const HeapReport& now) noexcept;
};

constexpr Figure kReported[] = {
    {"allocated", [](const HeapReport& now) noexcept { return now.live_bytes; }},
    {"active", jemalloc::active_bytes},
    {"metadata", [](const HeapReport& now) noexcept { return now.record_bytes; }},
    {"resident", jemalloc::resident_bytes},
    {"mapped", jemalloc::mapped_bytes},
    {"retained", [](const HeapReport& now) noexcept { return now.retained_bytes; }},
    {"peak", [](const HeapReport& now) noexcept { return now.peak_bytes; }},
    {"limit",
     [](const HeapReport&) noexcept { return static_cast<size_t>(pressure::limit_bytes()); }},
};

int answer(const std::optional<Place>& place, const Request& request) noexcept {
  os::ErrnoGuard errno_guard;
  if (!place) return ENOENT;
  return jemalloc::answer_of(place->row)(request, place->mib.data());
}

void write_to_standard_error(void*, const char* text) noexcept {
  os::write_all(2, text, strlen(text));
}

}  // namespace

extern "C" {

/** Where malloc_stats_print() writes when it is given nothing to write with; nullptr: to standard error. A program sets
 *  it. Weak, so that this library too reads the copy that the linker makes of it in the program. */
MEMLIMIT_EXPORT __attribute__((weak)) void (*malloc_message)(void*, const char*) = nullptr;

/** Reads or writes what has such a name, or does what it says. Returns 0 or an error number, and leaves errno alone. */
MEMLIMIT_EXPORT int mallctl(const char* name, void* old, size_t* old_bytes, void* fresh,
                            size_t fresh_bytes) noexcept {
  return answer(jemalloc::find(jemalloc::names(), name), {old, old_bytes, fresh, fresh_bytes});
}

/** The MIB of a name, or of the beginning of one, for mallctlbymib(): at most *depth numbers, and then their number. */
MEMLIMIT_EXPORT int mallctlnametomib(const char* name, size_t* mib, size_t* depth) noexcept {
  const std::optional<Place> place = jemalloc::find_beginning(jemalloc::names(), name);
  if (!place) return ENOENT;
  *depth = std::min(*depth, place->depth);
  std::copy_n(place->mib.begin(), *depth, mib);
  return 0;
}

/** mallctl() for a MIB, in which the program may have changed the indices. */
MEMLIMIT_EXPORT int mallctlbymib(const size_t* mib, size_t depth, void* old, size_t* old_bytes,
                                 void* fresh, size_t fresh_bytes) noexcept {
  return answer(jemalloc::find_mib(jemalloc::names(), std::span(mib, depth)),
                {old, old_bytes, fresh, fresh_bytes});
}

/** Reports on the heap, as text, or as JSON when the options have a `J`. */
MEMLIMIT_EXPORT void malloc_stats_print(void (*write)(void*, const char*), void* arg,
                                        const char* options) noexcept {
  const HeapReport now = heap_report();
  const bool json = options != nullptr && strchr(options, 'J') != nullptr;
  char text[512];
  TextWriter out(text, sizeof text);
  if (json) {
    out.put("{\"jemalloc\":{\"version\":\"").put(jemalloc::kVersion).put("\",\"stats\":{");
  } else {
    out.put("___ Begin memlimit statistics ___\n");
  }
  for (const Figure& figure : kReported) {
    if (&figure != std::begin(kReported)) out.put(json ? "," : ", ");
    if (json) {
      out.put('"').put(figure.name).put("\":");
    } else {
      out.put(figure.name).put(": ");
    }
    out.put_uint(figure.of(now));
  }
  out.put(json ? "}}}\n" : "\n--- End memlimit statistics ---\n");
  if (write == nullptr) write = malloc_message;
  if (write == nullptr) write = write_to_standard_error;
  write(arg, text);
}

}  // extern "C"
