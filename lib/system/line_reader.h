/* Reads a text file of the kernel's line by line through a buffer of the caller's.
 *
 * Answers for: bounded memory, bounded bytes and never waiting, whatever the path turns out to be
 * (a directory, a FIFO, a device without end). Refuses to interpret lines. A line longer than the
 * buffer is left out whole: half a line would parse as something else. Threads: an object belongs
 * to one thread; no allocation, errno is kept.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace memlimit {

class LineReader {
 public:
  /** Opens `path`; `buffer` must outlive the object and holds the longest line that will be seen.
   *  Nothing past `max_bytes` is read. */
  LineReader(const char* path, char* buffer, size_t cap, int64_t max_bytes) noexcept;
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /** The next line without its newline, valid until the next call; false at the end or on an error.
   */
  bool next(std::string_view* line) noexcept;

  /** 0, or the -errno of the open or read that ended it. */
  int error() const noexcept { return error_; }

 private:
  bool fill() noexcept;

  char* buffer_;
  size_t cap_;
  size_t begin_ = 0, end_ = 0; /* unread bytes of buffer_ */
  int64_t budget_;
  int fd_;
  int error_ = 0;
  bool at_end_ = false;
};

}  // namespace memlimit
