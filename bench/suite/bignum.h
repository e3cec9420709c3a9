/* Natural numbers as immutable, reference-counted heap blocks: every operation allocates its result
 * and drops its operands, the way big-number libraries of the 1990s work. Blocks are 16-48 bytes,
 * lives are short.
 *
 * Answers for: exact arithmetic, and an allocation a result. Refuses to be fast where that would
 * save one.
 * Threads: one; the reference counts are plain.
 */
#pragma once

#include <algorithm>
#include <compare>
#include <utility>

#include "common.h"

namespace bench {

class Natural {
 public:
  Natural() noexcept = default;

  explicit Natural(uint64_t value) : block_(make(2)) {
    block_->limbs()[0] = static_cast<uint32_t>(value);
    block_->limbs()[1] = static_cast<uint32_t>(value >> 32);
    trim();
  }

  Natural(const Natural& other) noexcept : block_(other.block_) {
    if (block_ != nullptr) ++block_->references;
  }
  Natural(Natural&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Natural& operator=(Natural other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Natural() {
    if (block_ != nullptr && --block_->references == 0) std::free(block_);
  }

  /** The low 64 bits. */
  uint64_t low() const noexcept { return limb(0) | uint64_t{limb(1)} << 32; }

  friend std::strong_ordering operator<=>(const Natural& a, const Natural& b) noexcept {
    if (a.size() != b.size()) return a.size() <=> b.size();
    for (uint32_t i = a.size(); i-- > 0;) {
      if (a.limb(i) != b.limb(i)) return a.limb(i) <=> b.limb(i);
    }
    return std::strong_ordering::equal;
  }

  friend bool operator==(const Natural& a, const Natural& b) noexcept { return (a <=> b) == 0; }

  friend Natural operator+(const Natural& a, const Natural& b) {
    const uint32_t size = std::max(a.size(), b.size()) + 1;
    Natural sum(Sized{size});
    uint64_t carry = 0;
    for (uint32_t i = 0; i < size; ++i) {
      carry += uint64_t{a.limb(i)} + b.limb(i);
      sum.block_->limbs()[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    sum.trim();
    return sum;
  }

  /** Wants a >= b. */
  friend Natural operator-(const Natural& a, const Natural& b) {
    Natural difference(Sized{a.size()});
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a.size(); ++i) {
      borrow += int64_t{a.limb(i)} - b.limb(i);
      difference.block_->limbs()[i] = static_cast<uint32_t>(borrow);
      borrow >>= 32;
    }
    difference.trim();
    return difference;
  }

  friend Natural operator*(const Natural& a, const Natural& b) {
    Natural product(Sized{a.size() + b.size()});
    for (uint32_t i = 0; i < product.size(); ++i) product.block_->limbs()[i] = 0;
    for (uint32_t i = 0; i < a.size(); ++i) {
      uint64_t carry = 0;
      for (uint32_t j = 0; j < b.size() || carry != 0; ++j) {
        carry += product.limb(i + j) + uint64_t{a.limb(i)} * b.limb(j);
        product.block_->limbs()[i + j] = static_cast<uint32_t>(carry);
        carry >>= 32;
      }
    }
    product.trim();
    return product;
  }

  /** Quotient by a small number; the rest goes to *rest. Wants divisor != 0. */
  Natural divide_small(uint32_t divisor, uint32_t* rest) const {
    Natural quotient(Sized{size()});
    uint64_t left = 0;
    for (uint32_t i = size(); i-- > 0;) {
      left = left << 32 | limb(i);
      quotient.block_->limbs()[i] = static_cast<uint32_t>(left / divisor);
      left %= divisor;
    }
    *rest = static_cast<uint32_t>(left);
    quotient.trim();
    return quotient;
  }

  /** {quotient, rest}, by long division (Knuth, volume 2, algorithm D). Wants divisor != 0. */
  static std::pair<Natural, Natural> divide(const Natural& dividend, const Natural& divisor) {
    if (dividend < divisor) return {Natural(0), dividend};
    if (divisor.size() == 1) {
      uint32_t rest = 0;
      Natural quotient = dividend.divide_small(divisor.limb(0), &rest);
      return {std::move(quotient), Natural(rest)};
    }
    // Shifted so that the divisor's highest bit is set: then a guessed digit is at most 2 too
    // large.
    const auto shift = static_cast<uint32_t>(__builtin_clz(divisor.limb(divisor.size() - 1)));
    Natural rest = dividend.shifted(shift);
    const Natural by = divisor.shifted(shift);
    const uint32_t n = divisor.size();
    const uint32_t digits = dividend.size() - n + 1;
    Natural quotient(Sized{digits});
    const uint64_t top = by.limb(n - 1);
    for (uint32_t j = digits; j-- > 0;) {
      const uint64_t head = uint64_t{rest.limb(j + n)} << 32 | rest.limb(j + n - 1);
      uint64_t guess = std::min<uint64_t>(head / top, UINT32_MAX);
      uint64_t over = head - guess * top;
      while (over <= UINT32_MAX && guess * by.limb(n - 2) > (over << 32 | rest.limb(j + n - 2))) {
        --guess;
        over += top;
      }
      if (rest.subtract_multiple(by, guess, j, n)) {
        --guess;
        rest.add_back(by, j, n);
      }
      quotient.block_->limbs()[j] = static_cast<uint32_t>(guess);
    }
    quotient.trim();
    rest.shift_right(shift, n);
    return {std::move(quotient), std::move(rest)};
  }

 private:
  struct Block {
    uint32_t references;
    uint32_t size;

    uint32_t* limbs() noexcept { return reinterpret_cast<uint32_t*>(this + 1); }
  };

  /** A number of `size` limbs, yet to be filled in. */
  struct Sized {
    uint32_t limbs;
  };
  explicit Natural(Sized size) : block_(make(size.limbs)) {}

  static Block* make(uint32_t size) {
    auto* block = reinterpret_cast<Block*>(must_malloc(sizeof(Block) + size * sizeof(uint32_t)));
    block->references = 1;
    block->size = size;
    return block;
  }

  uint32_t size() const noexcept { return block_ == nullptr ? 0 : block_->size; }
  uint32_t limb(uint32_t index) const noexcept {
    return index < size() ? block_->limbs()[index] : 0;
  }

  void trim() noexcept {
    while (block_->size > 0 && block_->limbs()[block_->size - 1] == 0) --block_->size;
  }

  /** This times 2^bits, with one limb more than it needs; bits < 32. */
  Natural shifted(uint32_t bits) const {
    Natural result(Sized{size() + 1});
    uint64_t carry = 0;
    for (uint32_t i = 0; i <= size(); ++i) {
      carry |= uint64_t{limb(i)} << bits;
      result.block_->limbs()[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    return result;
  }

  void shift_right(uint32_t bits, uint32_t limbs) noexcept {
    block_->size = limbs;
    for (uint32_t i = 0; i < limbs; ++i) {
      const uint64_t pair = uint64_t{limb(i + 1)} << 32 | limb(i);
      block_->limbs()[i] = static_cast<uint32_t>(pair >> bits);
    }
    trim();
  }

  /** this -= by * digit * 2^(32 * at), over n + 1 limbs; true when it went below zero. */
  bool subtract_multiple(const Natural& by, uint64_t digit, uint32_t at, uint32_t n) noexcept {
    int64_t borrow = 0;
    uint64_t carry = 0;
    for (uint32_t i = 0; i <= n; ++i) {
      carry += digit * by.limb(i);
      borrow += int64_t{limb(at + i)} - static_cast<uint32_t>(carry);
      if (at + i < size()) block_->limbs()[at + i] = static_cast<uint32_t>(borrow);
      borrow >>= 32;
      carry >>= 32;
    }
    return borrow < 0;
  }

  void add_back(const Natural& by, uint32_t at, uint32_t n) noexcept {
    uint64_t carry = 0;
    for (uint32_t i = 0; i <= n; ++i) {
      carry += uint64_t{limb(at + i)} + by.limb(i);
      if (at + i < size()) block_->limbs()[at + i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
  }

  Block* block_ = nullptr;
};

}  // namespace bench
