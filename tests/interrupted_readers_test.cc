/* What tells mimalloc's count of readers from other words. Code is put together here, and never run; that the real
 * library's is found shows in tests/preload/interrupted_readers_end_in_the_child.c. */
#include "interrupted_readers.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include <catch2/catch.hpp>

using namespace memlimit;

namespace {

struct Image {
  alignas(8) std::array<unsigned char, 512> code{};
  alignas(8) std::array<uint64_t, 4> words{};
  size_t used = 0;

  /* Adds these bytes, and where `word` is not negative the distance to it and the instruction's last bytes. */
  void add(std::initializer_list<int> bytes, int word = -1, std::initializer_list<int> tail = {}) {
    for (const int byte : bytes) code[used++] = static_cast<unsigned char>(byte);
    if (word >= 0) {
      const auto next =
          reinterpret_cast<intptr_t>(&code[used]) + 4 + static_cast<intptr_t>(tail.size());
      const auto distance = static_cast<int32_t>(
          reinterpret_cast<intptr_t>(&words[static_cast<size_t>(word)]) - next);
      memcpy(&code[used], &distance, sizeof distance);
      used += sizeof distance;
    }
    for (const int byte : tail) code[used++] = static_cast<unsigned char>(byte);
  }
  void increment(int word) { add({0xf0, 0x48, 0x83, 0x05}, word, {1}); }
  void decrement(int word) { add({0xf0, 0x48, 0x83, 0x2d}, word, {1}); }
  /* mov rax, [word]; test rax, rax; jne +1; ret; pause; jmp back */
  void wait(int word) {
    add({0x48, 0x8b, 0x05}, word);
    add({0x48, 0x85, 0xc0, 0x75, 0x01, 0xc3, 0xf3, 0x90, 0xeb, -17});
  }
  /* The same, as Clang writes it: je over the pause and the jump. */
  void wait_with_je(int word) {
    add({0x48, 0x8b, 0x05}, word);
    add({0x48, 0x85, 0xc0, 0x74, 0x04, 0xf3, 0x90, 0xeb, -16});
  }
  /* pause; cmp [word], 0; jne back */
  void wait_with_cmp(int word) {
    add({0xf3, 0x90, 0x48, 0x83, 0x3d}, word, {0});
    add({0x75, -12});
  }

  uintptr_t find() const {
    const auto begin = reinterpret_cast<uintptr_t>(code.data());
    const auto data = reinterpret_cast<uintptr_t>(words.data());
    return interrupted_readers::find_counter({begin, begin + code.size()},
                                             {data, data + sizeof words});
  }
  uintptr_t at(size_t word) const { return reinterpret_cast<uintptr_t>(&words[word]); }
};

}  // namespace

TEST_CASE("interrupted_readers: a word that is counted in and waited for is found",
          "[interrupted_readers]") {
  for (void (Image::*wait)(int) : {&Image::wait, &Image::wait_with_je, &Image::wait_with_cmp}) {
    Image image;
    image.increment(3);
    image.decrement(3);
    image.increment(1);
    image.decrement(1);
    CHECK(image.find() == 0);
    (image.*wait)(1);
    CHECK(image.find() == image.at(1));
    (image.*wait)(1);
    CHECK(image.find() == image.at(1));
  }
}

TEST_CASE("interrupted_readers: a word that is only counted up, only down or not at all is none",
          "[interrupted_readers]") {
  Image image;
  image.wait(0);
  CHECK(image.find() == 0);
  image.increment(0);
  image.increment(1);
  image.decrement(1);
  CHECK(image.find() == 0);
  image.decrement(0);
  CHECK(image.find() == image.at(0));

  Image down;
  down.wait(0);
  down.decrement(0);
  CHECK(down.find() == 0);
}

TEST_CASE("interrupted_readers: of two words that fit neither is taken", "[interrupted_readers]") {
  Image image;
  for (const int word : {0, 2}) {
    image.increment(word);
    image.decrement(word);
    image.wait(word);
  }
  CHECK(image.find() == 0);
}

TEST_CASE("interrupted_readers: a word outside the allocator's variables is none",
          "[interrupted_readers]") {
  Image image;
  image.increment(1);
  image.decrement(1);
  image.wait(1);
  const auto begin = reinterpret_cast<uintptr_t>(image.code.data());
  const AddressRange code{begin, begin + image.code.size()};
  CHECK(interrupted_readers::find_counter(code, {image.at(2), image.at(3)}) == 0);
  CHECK(interrupted_readers::find_counter(code, {image.at(0), image.at(1) + 7}) == 0);
  CHECK(interrupted_readers::find_counter(code, {image.at(1), image.at(2)}) == image.at(1));
  CHECK(interrupted_readers::find_counter({begin, begin + 8}, {image.at(0), image.at(3)}) == 0);
}
