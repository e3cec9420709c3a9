/* See line_reader.h. */
#include "system/line_reader.h"

#include <algorithm>
#include <cstring>

#include "system/os.h"

namespace memlimit {

LineReader::LineReader(const char* path, char* buffer, size_t cap, int64_t max_bytes) noexcept
    : buffer_(buffer), cap_(cap), budget_(max_bytes), fd_(os::open_read(path)) {
  if (fd_ < 0) {
    error_ = fd_;
    at_end_ = true;
  }
}

LineReader::~LineReader() {
  if (fd_ >= 0) os::close_file(fd_);
}

/* Appends to buffer_, moving what is unread to its front first. False when nothing more will come.
 */
bool LineReader::fill() noexcept {
  if (at_end_) return false;
  if (begin_ > 0) {
    memmove(buffer_, buffer_ + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const size_t room = std::min(cap_ - end_, static_cast<size_t>(std::max<int64_t>(budget_, 0)));
  const int64_t got = room == 0 ? 0 : os::read_some(fd_, buffer_ + end_, room);
  if (got <= 0) {
    error_ = static_cast<int>(got);
    at_end_ = true;
    return false;
  }
  end_ += static_cast<size_t>(got);
  budget_ -= got;
  return true;
}

bool LineReader::next(std::string_view* line) noexcept {
  bool overlong = false;
  size_t searched = 0;
  for (;;) {
    const char* start = buffer_ + begin_;
    const size_t unread = end_ - begin_;
    const void* newline =
        unread > searched ? memchr(start + searched, '\n', unread - searched) : nullptr;
    if (newline != nullptr) {
      const auto length = static_cast<size_t>(static_cast<const char*>(newline) - start);
      begin_ += length + 1;
      searched = 0;
      if (overlong) {
        overlong = false;
        continue;
      }
      *line = {start, length};
      return true;
    }
    searched = unread;
    if (unread == cap_) {
      begin_ = end_ = searched = 0;
      overlong = true;
    }
    if (fill()) continue;
    // A last line without a newline counts, unless the budget or an error cut it.
    if (error_ != 0 || budget_ <= 0 || overlong || end_ == begin_) return false;
    *line = {buffer_ + begin_, end_ - begin_};
    begin_ = end_;
    return true;
  }
}

}  // namespace memlimit
