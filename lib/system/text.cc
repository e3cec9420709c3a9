/* Out of line: none of this is hot, and inlined it was a third of the settings' code. */
#include "system/text.h"

#include <cstring>

namespace memlimit {

const char* errno_words(int error) noexcept {
#if !defined(__GLIBC__)
  return strerror(error); /* musl: a table, and translations that are loaded already */
#elif __GLIBC_PREREQ(2, 32)
  return strerrordesc_np(error);
#else
  (void)error;
  return nullptr;
#endif
}

TextWriter::TextWriter(char* out, size_t cap) noexcept : out_(out), cap_(cap) {
  if (cap_ > 0) out_[0] = '\0';
}

TextWriter& TextWriter::put(char c) noexcept { return put(std::string_view(&c, 1)); }

TextWriter& TextWriter::put(std::string_view text) noexcept {
  const size_t room = cap_ > 0 ? cap_ - 1 - length_ : 0;
  const size_t taken = text.size() < room ? text.size() : room;
  if (taken < text.size()) truncated_ = true;
  if (taken == 0) return *this;
  std::memcpy(out_ + length_, text.data(), taken);
  length_ += taken;
  out_[length_] = '\0';
  return *this;
}

TextWriter& TextWriter::put_int(int64_t value, int width) noexcept {
  if (value >= 0) return put_uint(static_cast<uint64_t>(value), 10, width);
  // Negated as unsigned: -INT64_MIN does not exist.
  return put('-').put_uint(0 - static_cast<uint64_t>(value), 10, width);
}

TextWriter& TextWriter::put_uint(uint64_t value, unsigned base, int width) noexcept {
  char digits[64];
  size_t first = sizeof digits;
  do {
    digits[--first] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  for (size_t count = sizeof digits - first; count < static_cast<size_t>(width); ++count) put('0');
  return put({digits + first, sizeof digits - first});
}

TextWriter& TextWriter::put_right(int64_t value, size_t width) noexcept {
  char digits[24];
  TextWriter number(digits, sizeof digits);
  number.put_int(value);
  for (size_t length = number.length(); length < width; ++length) put(' ');
  return put(number.view());
}

TextWriter& TextWriter::put_seconds(int64_t ns) noexcept {
  constexpr uint64_t kNsPerSecond = 1'000'000'000;
  uint64_t magnitude = static_cast<uint64_t>(ns);
  if (ns < 0) {
    put('-');
    magnitude = 0 - magnitude;
  }
  put_uint(magnitude / kNsPerSecond).put('.');
  uint64_t fraction = magnitude % kNsPerSecond;
  int digits = 9;
  for (; digits > 1 && fraction % 10 == 0; --digits) fraction /= 10;
  return put_uint(fraction, 10, digits);
}

TextWriter& TextWriter::put_errno(int error) noexcept {
  if (const char* const words = errno_words(error)) return put(words);
  return put("error ").put_int(error);
}

TextWriter& TextWriter::pad_to(size_t start, size_t width) noexcept {
  while (length_ < start + width && !truncated_) put(' ');
  return *this;
}

TextWriter& TextWriter::put_column(std::string_view text) noexcept {
  for (const char c : text) {
    if (c > ' ' && c <= '~' && c != '\\') {
      put(c);
    } else {
      put('\\').put_uint(static_cast<unsigned char>(c), 8, 3);
    }
  }
  return *this;
}

TextWriter& TextWriter::put_escaped(std::string_view text, size_t max_shown) noexcept {
  for (const char c : text.substr(0, max_shown)) {
    if (c == '\n') {
      put("\\n");
    } else if (c == '\\') {
      put("\\\\");
    } else if (c < ' ' || c > '~') {
      put("\\x").put_uint(static_cast<unsigned char>(c), 16, 2);
    } else {
      put(c);
    }
  }
  return text.size() > max_shown ? put("...") : *this;
}

TextWriter& TextWriter::drop_partial_line() noexcept {
  while (length_ > 0 && out_[length_ - 1] != '\n') --length_;
  if (cap_ > 0) out_[length_] = '\0';
  return *this;
}

}  // namespace memlimit
