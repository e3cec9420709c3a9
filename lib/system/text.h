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

/** What an errno means, in English whatever the locale; nullptr where libc would load a catalogue of messages to tell. */
const char* errno_words(int error) noexcept;

class TextWriter {
 public:
  /** Writes at most cap - 1 bytes and a NUL to `out`; cap 0 writes nothing at all. */
  TextWriter(char* out, size_t cap) noexcept;

  TextWriter& put(char c) noexcept;
  TextWriter& put(std::string_view text) noexcept;

  /** Decimal, with at least `width` digits (padded with zeros). */
  TextWriter& put_int(int64_t value, int width = 1) noexcept;
  TextWriter& put_uint(uint64_t value, unsigned base = 10, int width = 1) noexcept;

  /** Decimal, with spaces before it up to `width` bytes. */
  TextWriter& put_right(int64_t value, size_t width) noexcept;

  /** Nanoseconds as decimal seconds, without trailing zeros but with at least one decimal. */
  TextWriter& put_seconds(int64_t ns) noexcept;

  /** What an errno means, in English whatever the locale. */
  TextWriter& put_errno(int error) noexcept;

  /** Spaces until the text since `start` is `width` bytes long; none when it already is. */
  TextWriter& pad_to(size_t start, size_t width) noexcept;

  /** As a field of /proc/mounts: blanks, backslashes and bytes outside printable ASCII become \ooo. */
  TextWriter& put_column(std::string_view text) noexcept;

  /** Foreign text for people, on one line and in ASCII: \n, \\ and \xNN escapes; of more than `max_shown`
   *  bytes the rest is "...". */
  TextWriter& put_escaped(std::string_view text, size_t max_shown = 64) noexcept;

  /** Takes back everything after the last whole line. */
  TextWriter& drop_partial_line() noexcept;

  size_t length() const noexcept { return length_; }
  bool truncated() const noexcept { return truncated_; }
  std::string_view view() const noexcept { return {out_, length_}; }

 private:
  char* out_;
  size_t cap_;
  size_t length_ = 0;
  bool truncated_ = false;
};

}  // namespace memlimit
