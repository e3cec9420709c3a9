/* Text into a caller's buffer: what the renderers use instead of stdio and iostreams.
 *
 * Answers for: never writing past the buffer, always leaving it NUL-terminated, remembering that
 * something did not fit. Refuses locale, floating point and allocation; leaves errno alone.
 * Threads: one object belongs to one thread.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace memlimit {

class TextBuffer {
 public:
  /** Writes into buffer[0, cap); cap counts the final NUL. A cap of 0 holds nothing. */
  TextBuffer(char* buffer, size_t cap) noexcept : data_(buffer), cap_(cap == 0 ? 0 : cap - 1) {
    if (cap > 0) data_[0] = '\0';
  }

  /** Appends as much as fits. */
  TextBuffer& put(std::string_view text) noexcept {
    const size_t room = cap_ - length_;
    const size_t fits = text.size() < room ? text.size() : room;
    if (fits < text.size()) truncated_ = true;
    if (fits > 0) {
      std::memcpy(data_ + length_, text.data(), fits);
      length_ += fits;
      data_[length_] = '\0';
    }
    return *this;
  }

  TextBuffer& put(char c) noexcept { return put(std::string_view(&c, 1)); }

  /** Appends a number in decimal, right-aligned with spaces in `width` columns. */
  TextBuffer& put_uint(uint64_t value, size_t width = 0) noexcept {
    return put_digits(value, false, width);
  }
  TextBuffer& put_int(int64_t value, size_t width = 0) noexcept {
    const bool negative = value < 0;
    return put_digits(negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value),
                      negative, width);
  }

  /** Appends nanoseconds as decimal seconds, without trailing zeros but with at least one decimal.
   */
  TextBuffer& put_seconds(int64_t ns) noexcept {
    constexpr uint64_t kNsPerSecond = 1'000'000'000;
    uint64_t magnitude = static_cast<uint64_t>(ns);
    if (ns < 0) {
      put('-');
      magnitude = 0 - magnitude;
    }
    put_uint(magnitude / kNsPerSecond);
    char fraction[10] = {'.'};
    uint64_t rest = magnitude % kNsPerSecond;
    for (size_t i = 9; i > 0; --i, rest /= 10) fraction[i] = static_cast<char>('0' + rest % 10);
    size_t length = sizeof fraction;
    while (length > 2 && fraction[length - 1] == '0') --length;
    return put(std::string_view(fraction, length));
  }

  TextBuffer& put_spaces(size_t count) noexcept {
    for (; count > 0; --count) put(' ');
    return *this;
  }

  /** Appends foreign text so that it stays on one line and is valid ASCII: \n, \\ and \xNN escapes;
   *  beyond `max_shown` bytes it ends in "...". */
  TextBuffer& put_escaped(std::string_view text, size_t max_shown = 64) noexcept {
    static constexpr char kHex[] = "0123456789abcdef";
    for (size_t i = 0; i < text.size(); ++i) {
      if (i == max_shown) return put("...");
      const auto byte = static_cast<unsigned char>(text[i]);
      if (byte == '\n') {
        put("\\n");
      } else if (byte == '\\') {
        put("\\\\");
      } else if (byte < 0x20 || byte >= 0x7f) {
        const char hex[4] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
        put(std::string_view(hex, sizeof hex));
      } else {
        put(static_cast<char>(byte));
      }
    }
    return *this;
  }

  /** Takes back everything after the last whole line. */
  void drop_partial_line() noexcept {
    while (length_ > 0 && data_[length_ - 1] != '\n') --length_;
    if (cap_ > 0) data_[length_] = '\0';
  }

  std::string_view view() const noexcept { return {data_, length_}; }
  size_t length() const noexcept { return length_; }
  bool truncated() const noexcept { return truncated_; }

 private:
  TextBuffer& put_digits(uint64_t value, bool negative, size_t width) noexcept {
    char digits[21];
    size_t at = sizeof digits;
    do {
      digits[--at] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value > 0);
    if (negative) digits[--at] = '-';
    const size_t length = sizeof digits - at;
    if (length < width) put_spaces(width - length);
    return put(std::string_view(digits + at, length));
  }

  char* data_;
  size_t cap_;
  size_t length_ = 0;
  bool truncated_ = false;
};

}  // namespace memlimit
