/* Call-frame information: rules survive their packing, and no bytes whatever lead outside of the image. */
#include "profile/frame_rule.h"

#include <link.h>

#include <cstring>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

using namespace memlimit::profile;

namespace {

/* This program's own unwind tables, copied to where a read beyond their end is found out by the address sanitizer. */
struct Tables {
  std::vector<unsigned char> bytes;
  uintptr_t at = 0; /* where they were */
};

Tables own_tables() {
  Tables tables;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* arg) {
        auto& out = *static_cast<Tables*>(arg);
        uintptr_t header = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
            header = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        }
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
          if (segment.p_type != PT_LOAD || header < begin || header >= begin + segment.p_memsz)
            continue;
          const auto* const from = reinterpret_cast<const unsigned char*>(header);
          out.bytes.assign(from, reinterpret_cast<const unsigned char*>(begin) + segment.p_memsz);
          out.at = header;
        }
        return 1;
      },
      &tables);
  return tables;
}

CodeImage image_of(const std::vector<unsigned char>& bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  return {begin, begin + bytes.size(), begin};
}

/* Where the table has functions, as far from the tables as in the original. */
std::vector<uintptr_t> functions_of(const std::vector<unsigned char>& bytes) {
  uint32_t count = 0;
  memcpy(&count, bytes.data() + 8, sizeof count);
  std::vector<uintptr_t> functions;
  for (uint32_t i = 0; i < count; ++i) {
    int32_t offset = 0;
    memcpy(&offset, bytes.data() + 12 + size_t{i} * 8, sizeof offset);
    functions.push_back(reinterpret_cast<uintptr_t>(bytes.data()) +
                        static_cast<uintptr_t>(intptr_t{offset}));
  }
  return functions;
}

}  // namespace

TEST_CASE("frame_rule: most functions of this program have a rule at their first instruction",
          "[profile]") {
  const Tables tables = own_tables();
  REQUIRE(tables.bytes.size() > 1000);
  const CodeImage image = image_of(tables.bytes);
  const std::vector<uintptr_t> functions = functions_of(tables.bytes);
  size_t with_rule = 0;
  for (const uintptr_t function : functions) {
    FrameRule rule;
    if (!find_frame_rule(image, function, &rule)) continue;
    ++with_rule;
    if (rule.outermost) continue;
#if defined(__x86_64__)
    // The call has pushed the return address, and nothing else has happened.
    if (rule.cfa_offset != 8) continue;
    CHECK_FALSE(rule.cfa_from_frame_pointer);
    CHECK(rule.return_offset == -8);
    CHECK_FALSE(rule.frame_pointer_saved);
#elif defined(__aarch64__)
    // The call has left the return address in its register.
    if (rule.cfa_offset != 0) continue;
    CHECK_FALSE(rule.cfa_from_frame_pointer);
    CHECK(rule.return_in_register);
    CHECK_FALSE(rule.frame_pointer_saved);
#endif
  }
  CHECK(functions.size() > 1000);
  CHECK(with_rule > functions.size() * 99 / 100);
}

TEST_CASE("frame_rule: damaged tables lead nowhere", "[profile]") {
  const Tables tables = own_tables();
  // A part of them is enough, and is copied in no time: what lies beyond is beyond the end.
  std::vector<unsigned char> bytes(
      tables.bytes.begin(),
      tables.bytes.begin() + static_cast<long>(std::min<size_t>(tables.bytes.size(), 1 << 20)));
  std::mt19937 random(7);
  const std::vector<uintptr_t> functions = [&] {
    std::vector<unsigned char> whole = tables.bytes;
    std::vector<uintptr_t> offsets;
    for (const uintptr_t function : functions_of(whole))
      offsets.push_back(function - reinterpret_cast<uintptr_t>(whole.data()));
    return offsets;
  }();
  for (int turn = 0; turn < 20'000; ++turn) {
    const size_t where = random() % bytes.size();
    const unsigned char before = bytes[where];
    bytes[where] = static_cast<unsigned char>(random());
    const uintptr_t base = reinterpret_cast<uintptr_t>(bytes.data());
    FrameRule rule;
    find_frame_rule(image_of(bytes), base + functions[random() % functions.size()] + random() % 64,
                    &rule);
    if (turn % 2 == 0) bytes[where] = before;
  }
  FrameRule rule;
  for (const size_t length : {0, 1, 4, 11, 12, 20}) {
    const std::vector<unsigned char> cut(tables.bytes.begin(),
                                         tables.bytes.begin() + static_cast<long>(length));
    CodeImage image = image_of(cut);
    CHECK_FALSE(find_frame_rule(image, image.begin, &rule));
  }
}

TEST_CASE("frame_rule: a rule fits into 64 bits, or is not kept", "[profile]") {
  std::mt19937 random(3);
  for (int i = 0; i < 10'000; ++i) {
    FrameRule rule;
    rule.cfa_offset = static_cast<int32_t>(random() % (1 << 24)) - (1 << 23) + 1;
    rule.return_offset = static_cast<int16_t>(random());
    rule.frame_pointer_offset = static_cast<int16_t>(random());
    const unsigned flags = random();
    rule.cfa_from_frame_pointer = flags & 1;
    rule.cfa_is_read = flags & 2;
    rule.saved_from_stack_pointer = flags & 4;
    rule.frame_pointer_saved = flags & 8;
    rule.signal = flags & 16;
    rule.outermost = flags & 32;
    rule.return_in_register = flags & 64;
    const uint64_t packed = pack(rule);
    REQUIRE(packed != 0);
    REQUIRE(unpack_frame_rule(packed) == rule);
  }
  FrameRule rule;
  rule.cfa_offset = 1 << 23;
  CHECK(pack(rule) == 0);
}
