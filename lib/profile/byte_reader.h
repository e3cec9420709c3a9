/* Reads DWARF's numbers from memory, and nothing beyond its end: what is not there reads as 0, and ok() tells.
 *
 * Threads: an object belongs to one.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace memlimit::profile {

class ByteReader {
 public:
  ByteReader(uintptr_t begin, uintptr_t end) noexcept : at_(begin), end_(end) {}

  uintptr_t at() const noexcept { return at_; }
  bool ok() const noexcept { return ok_; }
  bool more() const noexcept { return ok_ && at_ < end_; }

  template <typename Value>
  Value fixed() noexcept {
    Value value{};
    if (!has(sizeof value)) return value;
    memcpy(&value, reinterpret_cast<const void*>(at_), sizeof value);
    at_ += sizeof value;
    return value;
  }

  uint64_t unsigned_leb() noexcept {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = fixed<uint8_t>();
      value |= uint64_t{byte & 0x7fU} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  int64_t signed_leb() noexcept {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = fixed<uint8_t>();
      value |= uint64_t{byte & 0x7fU} << shift;
      if ((byte & 0x80) != 0) continue;
      if ((byte & 0x40) != 0 && shift + 7 < 64) value |= ~uint64_t{0} << (shift + 7);
      return static_cast<int64_t>(value);
    }
    ok_ = false;
    return 0;
  }

  void skip(uint64_t bytes) noexcept {
    if (has(bytes)) at_ += bytes;
  }

  /* What follows, as a reader of its own. */
  ByteReader part(uint64_t bytes) noexcept {
    const uintptr_t begin = at_;
    skip(bytes);
    return ok_ ? ByteReader(begin, at_) : ByteReader(begin, begin);
  }

 private:
  bool has(uint64_t bytes) noexcept {
    if (bytes > end_ - at_) ok_ = false;
    return ok_;
  }

  uintptr_t at_, end_;
  bool ok_ = true;
};

}  // namespace memlimit::profile
