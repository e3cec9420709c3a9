/* Memory that may not be there, or be nobody's: read only after the kernel has said that it can be, page by page.
 *
 * The kernel says so to who gives it a signal mask to set, and no way to set it: it reads the mask first, and complains of the
 * way if it could (Abseil asks in the same way). Every sandbox lets that call through, since libc needs it. What can be read
 * may be gone a moment later if another thread unmaps it: whoever reads knows that nobody does.
 *
 * Threads: an object belongs to one. Context: any. No locks; allocates nothing.
 */
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "system/attributes.h"
#include "system/raw_call.h"

/* Memory of others is read as it is: to a sanitizer that is out of bounds. */
#define MEMLIMIT_READS_MEMORY __attribute__((no_sanitize("address", "thread", "undefined")))

namespace memlimit::profile {

class ReadableMemory {
 public:
  /** A word at a multiple of its size. */
  MEMLIMIT_READS_MEMORY bool read(uintptr_t at, uintptr_t* out) noexcept {
    if (at % sizeof(uintptr_t) != 0 || !is_readable(at & ~(kPage - 1))) return false;
    *out = *reinterpret_cast<const uintptr_t*>(at);
    return true;
  }

  /** Whether so many bytes can be read. */
  bool has(uintptr_t from, size_t bytes) noexcept {
    if (from + bytes < from) return false;
    for (uintptr_t page = from & ~(kPage - 1); page < from + bytes; page += kPage) {
      if (!is_readable(page)) return false;
    }
    return true;
  }

  MEMLIMIT_READS_MEMORY bool copy(uintptr_t from, void* to, size_t bytes) noexcept {
    if (!has(from, bytes)) return false;
    // Not memcpy(), which sanitizers stand in for.
    for (size_t i = 0; i < bytes; ++i)
      static_cast<volatile char*>(to)[i] = reinterpret_cast<const volatile char*>(from)[i];
    return true;
  }

  template <typename Value>
  bool get(uintptr_t at, Value* out) noexcept {
    return copy(at, out, sizeof *out);
  }

 private:
  static constexpr uintptr_t kPage = 4096;
  static constexpr size_t kKnownPages = 64; /* by address: a stack of Python lies on some forty */

  bool is_readable(uintptr_t page) noexcept {
    uintptr_t& known = known_[page / kPage % kKnownPages];
    if (known == page && page != 0) return true;
    constexpr int kNoWay = -1;
    const long answer =
        os::raw_call(SYS_rt_sigprocmask, kNoWay, static_cast<long>(page), 0, sizeof(uint64_t));
    if (answer != -EINVAL) return false;
    known = page;
    return true;
  }

  uintptr_t known_[kKnownPages] = {};
};

}  // namespace memlimit::profile
