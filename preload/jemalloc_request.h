/* One question to mallctl: where the answer goes, and what is written. The checks are jemalloc's: a size that is not the
 * value's is EINVAL, and what may not be read or written is EPERM. Threads: a request belongs to its caller.
 */
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace memlimit::jemalloc {

struct Request {
  void* old;
  size_t* old_bytes;
  const void* fresh;
  size_t fresh_bytes;

  bool reads() const noexcept { return old != nullptr || old_bytes != nullptr; }
  bool writes() const noexcept { return fresh != nullptr || fresh_bytes != 0; }

  /** Of a value that is only read. */
  template <typename T>
  int answer(T value) const noexcept {
    return writes() ? EPERM : read(value);
  }

  /** As much of the value as there is room for, also when that is the wrong size. */
  template <typename T>
  int read(T value) const noexcept {
    if (old == nullptr || old_bytes == nullptr) return 0;
    const size_t asked = *old_bytes;
    *old_bytes = std::min(asked, sizeof value);
    memcpy(old, &value, *old_bytes);
    return asked == sizeof value ? 0 : EINVAL;
  }

  /** Of a value that must be read, since asking for it makes it. */
  template <typename T>
  int demand(T value) const noexcept {
    if (old == nullptr || old_bytes == nullptr) return EINVAL;
    if (*old_bytes == sizeof value) return read(value);
    *old_bytes = 0;
    return EINVAL;
  }

  /** What is written, if anything is. */
  template <typename T>
  int write(T* value) const noexcept {
    if (fresh == nullptr) return 0;
    if (fresh_bytes != sizeof *value) return EINVAL;
    memcpy(value, fresh, sizeof *value);
    return 0;
  }

  /** What is there is read, then written. */
  template <typename T>
  int exchange(std::atomic<T>& value) const noexcept {
    T next = value.load(std::memory_order_relaxed);
    if (fresh != nullptr && fresh_bytes != sizeof(T)) return EINVAL;
    if (const int error = read(next)) return error;
    if (const int error = write(&next)) return error;
    if (fresh != nullptr) value.store(next, std::memory_order_relaxed);
    return 0;
  }
};

}  // namespace memlimit::jemalloc
