/* Size classes: every request gets the smallest class that fits, and little is lost. */
#include "heap/size_classes.h"

#include <catch2/catch.hpp>

using namespace memlimit::heap;

namespace {

unsigned smallest_class(size_t bytes) {
  unsigned index = 1;
  while (kClasses[index].block_bytes < bytes) ++index;
  return index;
}

}  // namespace

TEST_CASE("size_classes: a request gets the smallest class that holds it", "[heap]") {
  for (size_t bytes = 0; bytes <= kLargestSmallBytes; ++bytes) {
    if (class_of(bytes) != smallest_class(bytes)) FAIL("wrong class for " << bytes);
  }
}

TEST_CASE("size_classes: at most an eighth is lost, and less of one to two kilobytes", "[heap]") {
  for (size_t bytes = 129; bytes <= kLargestSmallBytes; ++bytes) {
    const size_t block_bytes = kClasses[class_of(bytes)].block_bytes;
    const size_t allowed = bytes > 1024 && bytes <= 2048 ? bytes / 32 + 1 : bytes / 8 + 1;
    if (block_bytes - bytes > allowed) FAIL(bytes << " bytes cost " << block_bytes);
  }
  // What a Python object of 1,000 bytes is.
  CHECK(kClasses[class_of(1033)].block_bytes <= 1033 * 103 / 100);
  // What a page of SQLite's is, and of anybody's with a header.
  CHECK(kClasses[class_of(4368)].block_bytes == 4368);
  for (size_t page = 4096; page <= 16384; page *= 2) {
    CHECK(kClasses[class_of(page)].block_bytes == page);
    CHECK(kClasses[class_of(page + page / 16)].block_bytes < page + page / 14);
  }
}

TEST_CASE("size_classes: the reciprocal tells block starts from all other offsets", "[heap]") {
  for (unsigned i = 1; i <= kSmallClasses; ++i) {
    const ClassInfo& info = kClasses[i];
    for (uint64_t offset = 0; offset < kSliceBytes; ++offset) {
      const uint64_t product = offset * info.reciprocal;
      const bool begins = static_cast<uint32_t>(product) < info.reciprocal;
      if (product >> 32 != offset / info.block_bytes ||
          begins != (offset % info.block_bytes == 0)) {
        FAIL("offset " << offset << " of blocks of " << info.block_bytes);
      }
    }
  }
}

TEST_CASE("size_classes: an aligned class is a multiple of the alignment", "[heap]") {
  for (size_t alignment = 16; alignment <= kLargestSmallBytes; alignment *= 2) {
    for (size_t bytes = 0; bytes <= kLargestSmallBytes; bytes += bytes < 4096 ? 1 : 61) {
      const size_t rounded = (bytes + alignment - 1) & ~(alignment - 1);
      if (rounded > kLargestSmallBytes) break;
      const size_t block_bytes = kClasses[aligned_class(bytes, alignment)].block_bytes;
      if (block_bytes % alignment != 0 || block_bytes < bytes) {
        FAIL(bytes << " bytes aligned to " << alignment << " get " << block_bytes);
      }
    }
  }
}
