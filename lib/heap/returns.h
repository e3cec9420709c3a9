/* Blocks of one class on their way back to their spans: those that share a word of a bitmap are collected, in any order, and
 * go back together. What is no block, or free already, is found here.
 *
 * Threads: an object is one thread's. No locks; allocates nothing.
 */
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "heap/address_map.h"
#include "heap/misuse.h"
#include "heap/region.h"
#include "heap/size_classes.h"
#include "heap/span.h"
#include "system/attributes.h"

namespace memlimit::heap::transfer {

class Returns {
 public:
  explicit Returns(unsigned class_index) noexcept
      : class_index_(class_index), info_(kClasses[class_index]) {}

  void all(void* const* blocks, size_t count) noexcept {
    const uint64_t reciprocal = info_.reciprocal;
    Word none{};
    Word* here = &none;
    uint64_t bits = 0; /* those of `here` */
    for (void* const* const end = blocks + count; blocks != end; ++blocks) {
      const Place at = place_of(*blocks, reciprocal);
      if (at.word != here->address) {
        here->bits = bits;
        here = &find(at.word);
        bits = here->bits;
      }
      if (MEMLIMIT_UNLIKELY((bits & at.bit) != 0)) freed_twice(*blocks);
      bits |= at.bit;
    }
    here->bits = bits;
    for (; used_ != 0; used_ &= used_ - 1) give_back(words_[std::countr_zero(used_)]);
  }

  void one(void* block) noexcept {
    const Place at = place_of(block, info_.reciprocal);
    give_back({at.word, at.bit});
  }

 private:
  static constexpr unsigned kPlaces = 32;

  /* The slice's address and the word's number below it: no word is 0. */
  struct Word {
    uintptr_t address;
    uint64_t bits;
  };
  struct Place {
    uintptr_t word;
    uint64_t bit;
  };

  MEMLIMIT_ALWAYS_INLINE Place place_of(const void* block, uint64_t reciprocal) const noexcept {
    const auto address = reinterpret_cast<uintptr_t>(block);
    const uintptr_t slice = address & ~(kSliceBytes - 1);
    const uint64_t product = (address - slice) * reciprocal;
    // The fraction: less than one block's where a block begins (heap_test.cc tries all).
    if (MEMLIMIT_UNLIKELY(static_cast<uint32_t>(product) >= reciprocal)) invalid(block);
    return {slice | product >> 38, uint64_t{1} << (product >> 32 & 63)};
  }

  /* A word's place follows from its slice and number: what another word has there is given back first. */
  Word& find(uintptr_t address) noexcept {
    const size_t index = ((address >> kSliceShift) + address) % kPlaces;
    const uint64_t place = uint64_t{1} << index;
    Word& word = words_[index];
    if ((used_ & place) != 0 && word.address == address) return word;
    if ((used_ & place) != 0) give_back(word);
    used_ |= place;
    word = {address, 0};
    return word;
  }

  void give_back(const Word& word) noexcept {
    const auto number = static_cast<unsigned>(word.address & (kSliceBytes - 1));
    const auto* const base = reinterpret_cast<const char*>(word.address - number);
    Region* const region = region_at(base);
    // It was of the class when it was pushed. A span changes its class only without blocks in the program's hands.
    if (MEMLIMIT_UNLIKELY(region == nullptr || class_at(base) != class_index_))
      freed_twice(block_at(base, number, word.bits));
    // Behind the last block there may be room for less than one.
    const uint64_t none = word.bits & ~spans::full_word(info_, number);
    if (MEMLIMIT_UNLIKELY(none != 0)) invalid(block_at(base, number, none));
    const SpanRef span{region, region->slice_of(base)};
    const uint64_t twice = spans::return_blocks(span, class_index_, number, word.bits);
    if (MEMLIMIT_UNLIKELY(twice != 0)) freed_twice(block_at(base, number, twice));
  }

  const void* block_at(const char* base, unsigned word, uint64_t bits) const noexcept {
    const size_t number = word * 64 + static_cast<unsigned>(std::countr_zero(bits));
    return base + number * info_.block_bytes;
  }

  [[noreturn]] MEMLIMIT_COLD void freed_twice(const void* block) const noexcept {
    report_misuse(Misuse::kDoubleFree, block, info_.block_bytes);
  }
  [[noreturn]] MEMLIMIT_COLD void invalid(const void* block) const noexcept {
    report_misuse(Misuse::kInvalidPointer, block, info_.block_bytes);
  }

  const unsigned class_index_;
  const ClassInfo info_;
  uint64_t used_ = 0; /* of the words: which are filled in */
  Word words_[kPlaces];
};

}  // namespace memlimit::heap::transfer
