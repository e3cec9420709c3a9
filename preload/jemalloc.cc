/* jemalloc's questions about the heap, answered with our numbers: mallctl, malloc_stats_print, nallocx.
 *
 * A program that is linked with jemalloc has its blocks from us, and would be told about a jemalloc that
 * lies idle: redis-server makes its INFO, MEMORY PURGE and MALLOC-STATS of these, and asks nallocx whether
 * a block is worth moving. Answered here is what is true of our heap. Names under `stats.` that have no
 * meaning here do not exist; every other name is the real jemalloc's, if the process has one, since who
 * makes arenas of its own goes on with functions that are not ours.
 *
 * Threads: any, outside malloc.
 */
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "engine/explicit_reclaim.h"
#include "engine/pressure.h"
#include "figures.h"
#include "heap/heap.h"
#include "system/attributes.h"
#include "system/os.h"
#include "system/text.h"

using namespace memlimit;

namespace {

using Mallctl = int (*)(const char*, void*, size_t*, void*, size_t);

/* Figures by jemalloc's names, which has its own words for what is held: `active` are pages of spans and blocks,
 * `resident` those and what is free, dirty or a record, at most; `mapped` is whole extents, and `retained` is address
 * space without pages. */
struct Figure {
  std::string_view name;
  size_t (*of)(const HeapReport& now) noexcept;
};

size_t active_bytes(const HeapReport& now) noexcept {
  // At least what is live, where the two are of different moments.
  return std::max(now.active_bytes,
                  (now.live_bytes + heap::kPageBytes - 1) & ~(heap::kPageBytes - 1));
}

constexpr Figure kFigures[] = {
    {"allocated", [](const HeapReport& now) noexcept { return now.live_bytes; }},
    {"active", active_bytes},
    {"metadata", [](const HeapReport& now) noexcept { return now.record_bytes; }},
    {"resident",
     [](const HeapReport& now) noexcept {
       return active_bytes(now) + now.dirty_bytes + now.record_bytes;
     }},
    {"mapped",
     [](const HeapReport& now) noexcept { return std::max(now.extent_bytes, active_bytes(now)); }},
    {"retained", [](const HeapReport& now) noexcept { return now.retained_bytes; }},
};

/* One request, as jemalloc's manual has it: what is read or written must be of the right size. */
struct Request {
  void* old;
  size_t* old_bytes;
  const void* fresh;
  size_t fresh_bytes;

  template <typename T>
  int answer(T value) const noexcept {
    if (fresh != nullptr) return EPERM;
    return read(value);
  }

  template <typename T>
  int read(T value) const noexcept {
    if (old == nullptr || old_bytes == nullptr) return 0;
    const size_t asked = *old_bytes;
    *old_bytes = std::min(asked, sizeof value);
    memcpy(old, &value, *old_bytes);
    return asked == sizeof value ? 0 : EINVAL;
  }

  /* What is there already is read, then written. */
  template <typename T>
  int exchange(std::atomic<T>& value) const noexcept {
    if (fresh != nullptr && fresh_bytes != sizeof(T)) return EINVAL;
    if (const int error = read(value.load(std::memory_order_relaxed))) return error;
    T next;
    if (fresh == nullptr) return 0;
    memcpy(&next, fresh, sizeof next);
    value.store(next, std::memory_order_relaxed);
    return 0;
  }

  int purge() const noexcept {
    if (old != nullptr || fresh != nullptr) return EPERM;
    explicit_reclaim::purge_now();
    return 0;
  }
};

/* "arena.<any>.purge" and "arena.<any>.decay": whichever it is, there is one heap. */
bool is_purge(std::string_view name) noexcept {
  constexpr std::string_view kPrefix = "arena.";
  if (name.substr(0, kPrefix.size()) != kPrefix) return false;
  name.remove_prefix(kPrefix.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  return digits > 0 && (name.substr(digits) == ".purge" || name.substr(digits) == ".decay");
}

int answer_stats(std::string_view name, const Request& request) noexcept {
  // What is asked most needs no walk over the heap.
  if (name == "allocated") return request.answer(heap_live_bytes());
  for (const Figure& figure : kFigures) {
    if (figure.name == name) return request.answer(figure.of(heap_report()));
  }
  return ENOENT;
}

/* Figures are never older than the question; the number only has to change when it is written. */
int answer_epoch(const Request& request) noexcept {
  static std::atomic<uint64_t> epoch{1};
  if (request.fresh != nullptr) {
    if (request.fresh_bytes != sizeof(uint64_t)) return EINVAL;
    epoch.fetch_add(1, std::memory_order_relaxed);
  }
  return request.read(epoch.load(std::memory_order_relaxed));
}

/* The service thread gives idle pages back, whether the program wants jemalloc's to do that or not. */
std::atomic<bool> background_thread{false};

}  // namespace

extern "C" {

/** Reads a figure, or purges. Returns 0 or an error number, and leaves errno alone. */
MEMLIMIT_EXPORT int mallctl(const char* name_text, void* old, size_t* old_bytes, void* fresh,
                            size_t fresh_bytes) noexcept {
  os::ErrnoGuard errno_guard;
  const Request request{old, old_bytes, fresh, fresh_bytes};
  const std::string_view name = name_text;
  constexpr std::string_view kStats = "stats.";
  if (name.substr(0, kStats.size()) == kStats)
    return answer_stats(name.substr(kStats.size()), request);
  if (name == "epoch") return answer_epoch(request);
  if (name == "arenas.narenas") return request.answer(1U);
  if (name == "background_thread") return request.exchange(background_thread);
  if (is_purge(name)) return request.purge();
  const auto real = reinterpret_cast<Mallctl>(dlsym(RTLD_NEXT, "mallctl"));
  if (real != nullptr) return real(name_text, old, old_bytes, fresh, fresh_bytes);
  dlerror();  // not the program's to find
  return ENOENT;
}

/** Reports on the heap, as text, or as JSON when the options have a `J`; to standard error without a
 *  function to write with. */
MEMLIMIT_EXPORT void malloc_stats_print(void (*write)(void*, const char*), void* arg,
                                        const char* options) noexcept {
  const HeapReport now = heap_report();
  const bool json = options != nullptr && strchr(options, 'J') != nullptr;
  char text[512];
  TextWriter out(text, sizeof text);
  out.put(json ? "{\"jemalloc\":{\"version\":\"memlimit\",\"stats\":{"
               : "___ Begin memlimit statistics ___\n");
  const auto put = [&](std::string_view name, size_t bytes) {
    if (json) {
      out.put('"').put(name).put("\":").put_uint(bytes);
    } else {
      out.put(name).put(": ").put_uint(bytes);
    }
  };
  const std::string_view separator = json ? "," : ", ";
  for (const Figure& figure : kFigures) {
    put(figure.name, figure.of(now));
    out.put(separator);
  }
  put("peak", now.peak_bytes);
  out.put(separator);
  put("limit", static_cast<size_t>(pressure::limit_bytes()));
  out.put(json ? "}}}\n" : "\n--- End memlimit statistics ---\n");
  if (write != nullptr) {
    write(arg, text);
  } else {
    os::write_all(2, text, out.length());
  }
}

/** The bytes that a block of this size has, as malloc_usable_size will tell; the lowest six bits of `flags`
 *  are the logarithm of its alignment. */
MEMLIMIT_EXPORT size_t nallocx(size_t bytes, int flags) noexcept {
  const size_t alignment = size_t{1} << (flags & 63);
  if (bytes > PTRDIFF_MAX || alignment > PTRDIFF_MAX - bytes) return 0;
  return heap::good_size((bytes + alignment - 1) / alignment * alignment);
}

}  // extern "C"
