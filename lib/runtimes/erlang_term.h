/* Writes a term in Erlang's external term format, for an Erlang node to read.
 *
 * A compound term is its head, then its parts in their order: tuple(2).atom("atom").integer(1).
 * Source: "External Term Format" of the ERTS reference manual; the tags are as old as OTP 17.
 * Pure; a buffer that is too small gives no term at all (size() is 0).
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace memlimit::runtimes {

class ErlangTerm {
 public:
  constexpr ErlangTerm() noexcept { byte(kVersion); }

  constexpr ErlangTerm& atom(std::string_view text) noexcept {
    byte(kSmallAtomUtf8).byte(static_cast<uint8_t>(text.size()));
    for (const char c : text) byte(static_cast<uint8_t>(c));
    return *this;
  }
  /** 0 to 255. */
  constexpr ErlangTerm& integer(uint8_t value) noexcept { return byte(kSmallInteger).byte(value); }
  constexpr ErlangTerm& tuple(uint8_t parts) noexcept { return byte(kSmallTuple).byte(parts); }
  /** Its parts, then nil(). */
  constexpr ErlangTerm& list(uint8_t parts) noexcept {
    return byte(kList).byte(0).byte(0).byte(0).byte(parts);
  }
  constexpr ErlangTerm& nil() noexcept { return byte(kNil); }
  /** A key and a value in turn. */
  constexpr ErlangTerm& map(uint8_t pairs) noexcept {
    return byte(kMap).byte(0).byte(0).byte(0).byte(pairs);
  }

  constexpr const unsigned char* data() const noexcept { return bytes_; }
  constexpr size_t size() const noexcept { return size_ <= kCap ? size_ : 0; }

 private:
  static constexpr size_t kCap = 768;
  static constexpr uint8_t kVersion = 131, kSmallAtomUtf8 = 119, kSmallInteger = 97;
  static constexpr uint8_t kSmallTuple = 104, kList = 108, kNil = 106, kMap = 116;

  constexpr ErlangTerm& byte(uint8_t value) noexcept {
    if (size_ < kCap) bytes_[size_] = value;
    ++size_;
    return *this;
  }

  unsigned char bytes_[kCap] = {};
  size_t size_ = 0;
};

}  // namespace memlimit::runtimes
