/* Size classes: which block size serves a request.
 *
 * Every class is a multiple of 16 bytes, and each of its spans is one slice of 64 KiB. From 256 bytes on there are 8
 * classes a doubling, and 32 between 1 and 2 KiB: with 4 a doubling a Python object of 1,033 bytes costs 1,280, and that
 * is memory nobody can reclaim. From 4 KiB on one more lies 17/256 above each power of two, for pages that have a header:
 * SQLite's take 4,368 bytes, of which a slice holds 15, but 14 of 4,608. More classes elsewhere cost more in half-used pages
 * than they save (measured with python, ruby, sqlite and g++). What a slice has left over behind its last block is never
 * touched, so it costs address space only. A multiple of an alignment is a class of that alignment (see aligned_class).
 *
 * Knows nothing of memory; all of it is constant. Threads: any.
 */
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "system/attributes.h"

namespace memlimit::heap {

inline constexpr unsigned kSliceShift = 16;
inline constexpr size_t kSliceBytes = size_t{1} << kSliceShift;
inline constexpr unsigned kPageShift = 12;
inline constexpr size_t kPageBytes = size_t{1} << kPageShift;
inline constexpr unsigned kPagesPerSlice = kSliceBytes / kPageBytes;

inline constexpr size_t kMinimumAlignment = 16;
inline constexpr size_t kLargestSmallBytes = size_t{32} << 10;

/* Class 0 is no class: a slice that begins no block. Each class has a twin for the blocks that are sampled (sampling.h):
 * of the same size, in spans of its own, without a stack. The last two are runs of slices and blocks of their own. */
inline constexpr unsigned kNoClass = 0;

namespace detail {

/* From a class to the next. */
constexpr size_t class_step(size_t bytes) noexcept {
  if (bytes < 256) return 16;
  const size_t doubling = std::bit_floor(bytes);
  const size_t eighth = doubling / 8;
  if (doubling == 1024) return doubling / 32;
  if (doubling < kPageBytes || bytes >= doubling + eighth) return eighth;
  const size_t header = doubling * 17 / 256;
  return bytes == doubling ? header : eighth - header;
}

constexpr unsigned count_classes() noexcept {
  unsigned count = 0;
  for (size_t bytes = 16; bytes <= kLargestSmallBytes; bytes += class_step(bytes)) ++count;
  return count;
}

}  // namespace detail

inline constexpr unsigned kSmallClasses = detail::count_classes(); /* 1 ... kSmallClasses */
inline constexpr unsigned kSpanClasses =
    2 * kSmallClasses; /* from kSmallClasses + 1 on: the twins */
inline constexpr unsigned kLargeClass = kSpanClasses + 1;
inline constexpr unsigned kHugeClass = kSpanClasses + 2;
inline constexpr unsigned kBins = kSpanClasses + 3;
static_assert(kBins <= 256, "a class is a byte");

/** The class of a small class's sampled blocks, and back. */
constexpr unsigned twin_of(unsigned class_index) noexcept { return class_index + kSmallClasses; }
constexpr unsigned without_twin(unsigned class_index) noexcept {
  return class_index > kSmallClasses && class_index <= kSpanClasses ? class_index - kSmallClasses
                                                                    : class_index;
}

/** What a class is. */
struct ClassInfo {
  uint32_t block_bytes;
  /* offset * reciprocal >> 32 is the block's number, for any offset in a slice: rounding it up adds less than
   * offset / 2^32 to the quotient, which must stay below one part in block_bytes. */
  uint32_t reciprocal;
  uint16_t blocks;   /* in a span */
  uint16_t words;    /* of the span's bitmap */
  uint16_t eager;    /* how many blocks a thread's stack grows to when it is used */
  uint16_t capacity; /* and how many when blocks come and go in such numbers */
};
static_assert(kLargestSmallBytes <= (uint64_t{1} << 32) / kSliceBytes, "reciprocals are exact");

namespace detail {

/* Two even of the largest: one comes, one goes. */
constexpr uint16_t stack_blocks(size_t stack_bytes, size_t block_bytes, size_t most) noexcept {
  return static_cast<uint16_t>(std::clamp<size_t>(stack_bytes / block_bytes, 2, most));
}

constexpr std::array<ClassInfo, kBins> make_classes() noexcept {
  std::array<ClassInfo, kBins> classes{};
  unsigned index = 1;
  for (size_t bytes = 16; bytes <= kLargestSmallBytes; bytes += class_step(bytes)) {
    ClassInfo& info = classes[index++];
    info.block_bytes = static_cast<uint32_t>(bytes);
    info.reciprocal = static_cast<uint32_t>(((uint64_t{1} << 32) + bytes - 1) / bytes);
    info.blocks = static_cast<uint16_t>(kSliceBytes / bytes);
    info.words = static_cast<uint16_t>((info.blocks + 63) / 64);
    info.eager = stack_blocks(16 << 10, bytes, 256);
    info.capacity = stack_blocks(256 << 10, bytes, 8192);
    classes[twin_of(index - 1)] = info;
  }
  return classes;
}

}  // namespace detail

inline constexpr std::array<ClassInfo, kBins> kClasses = detail::make_classes();

namespace detail {

/* The class of each multiple of `step`. */
template <size_t Count>
constexpr std::array<uint8_t, Count> make_table(size_t step) noexcept {
  std::array<uint8_t, Count> table{};
  unsigned index = 1;
  for (size_t i = 0; i < Count; ++i) {
    while (kClasses[index].block_bytes < i * step) ++index;
    table[i] = static_cast<uint8_t>(index);
  }
  return table;
}

}  // namespace detail

/* The fast path's table has an entry for each number of bytes: no rounding. */
inline constexpr size_t kTableBytes = 1024;
inline constexpr auto kSmallTable = detail::make_table<kTableBytes + 1>(1);

/* The rest in steps of 16 bytes, of which every class is a multiple. */
inline constexpr size_t kMediumStep = 16;
inline constexpr auto kMediumTable =
    detail::make_table<kLargestSmallBytes / kMediumStep + 1>(kMediumStep);

/** The class of a request of at most kLargestSmallBytes. */
MEMLIMIT_ALWAYS_INLINE constexpr unsigned class_of(size_t bytes) noexcept {
  if (bytes <= kTableBytes) return kSmallTable[bytes];
  return kMediumTable[(bytes + kMediumStep - 1) / kMediumStep];
}

/**
 * The class whose blocks are all aligned so, for a power of two up to kLargestSmallBytes. Spans begin with their
 * slice, so it is one whose size is a multiple. The request rounded up to the alignment is one wherever the alignment
 * is at least the step between classes, and every class is one where it is less: but for those of pages with a header,
 * which are followed by one of the others.
 */
MEMLIMIT_ALWAYS_INLINE constexpr unsigned aligned_class(size_t bytes, size_t alignment) noexcept {
  const unsigned index = class_of(std::max((bytes + alignment - 1) & ~(alignment - 1), alignment));
  return index + ((kClasses[index].block_bytes & (alignment - 1)) != 0 ? 1 : 0);
}

}  // namespace memlimit::heap
