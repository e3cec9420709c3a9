/* Text built in a caller's fixed buffer: what stdio and std::string would do, without a heap, a
 * locale or a lock, so that it works at start, inside malloc and between fork and exec.
 *
 * Refuses to overrun: what does not fit is dropped, and truncated() says so. Always NUL-terminated.
 * Threads: a writer belongs to one thread.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace memlimit {

class TextWriter {
 public:
  /** Writes at most cap - 1 bytes and a NUL to `out`; cap 0 writes nothing at all. */
  constexpr TextWriter(char* out, size_t cap) noexcept : out_(out), cap_(cap) { terminate(); }

  constexpr TextWriter& put(char c) noexcept {
    if (length_ + 1 < cap_) {
      out_[length_++] = c;
      terminate();
    } else {
      truncated_ = true;
    }
    return *this;
  }

  constexpr TextWriter& put(std::string_view text) noexcept {
    for (const char c : text) put(c);
    return *this;
  }

  /** Decimal, with at least `width` digits (padded with zeros). */
  constexpr TextWriter& put_int(int64_t value, int width = 1) noexcept {
    // Negated as unsigned: -INT64_MIN does not exist.
    uint64_t rest = static_cast<uint64_t>(value);
    if (value < 0) {
      put('-');
      rest = 0 - rest;
    }
    return put_uint(rest, 10, width);
  }

  constexpr TextWriter& put_uint(uint64_t value, unsigned base = 10, int width = 1) noexcept {
    char digits[64] = {};
    int count = 0;
    do {
      digits[count++] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    for (int pad = count; pad < width; ++pad) put('0');
    while (count > 0) put(digits[--count]);
    return *this;
  }

  /** Spaces until the text since `start` is `width` bytes long; none when it already is. */
  constexpr TextWriter& pad_to(size_t start, size_t width) noexcept {
    while (length_ < start + width && !truncated_) put(' ');
    return *this;
  }

  /** As a field of /proc/mounts: blanks, backslashes and bytes outside printable ASCII become \ooo.
   */
  constexpr TextWriter& put_column(std::string_view text) noexcept {
    for (const char c : text) {
      if (c > ' ' && c <= '~' && c != '\\') {
        put(c);
      } else {
        put('\\').put_uint(static_cast<unsigned char>(c), 8, 3);
      }
    }
    return *this;
  }

  constexpr size_t length() const noexcept { return length_; }
  constexpr bool truncated() const noexcept { return truncated_; }
  constexpr std::string_view view() const noexcept { return {out_, length_}; }

 private:
  constexpr void terminate() noexcept {
    if (cap_ > 0) out_[length_] = '\0';
  }

  char* out_;
  size_t cap_;
  size_t length_ = 0;
  bool truncated_ = false;
};

}  // namespace memlimit
