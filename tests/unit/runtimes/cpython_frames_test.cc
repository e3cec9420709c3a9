/* CPython's tables of locations: what its own code objects say (co_lines()). */
#include "runtimes/cpython_frames.h"

#include <cstring>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::runtimes::cpython_frames::line_at;

namespace {

struct Row {
  unsigned begin, end;
  int line;
};

void check_lines(const std::vector<unsigned char>& table, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    for (unsigned offset = row.begin; offset < row.end; offset += 2) {
      INFO("offset " << offset);
      CHECK(line_at(table.data(), table.size(), 1, offset) == row.line);
      if (row.line != 0) CHECK(line_at(table.data(), table.size(), 101, offset) == row.line + 100);
    }
  }
  CHECK(line_at(table.data(), table.size(), 1, rows.back().end) == 0);
}

}  // namespace

/* co_linetable and co_lines() of
 *   def f(x):
 *       y = [i for i in range(x)]
 *
 *       return (y,
 *               x)
 */
TEST_CASE("cpython_frames: lines of a function, by its table of locations", "[runtimes]") {
  SECTION("3.11.2") {
    check_lines(
        {0x80, 0x00, 0xd8, 0x08, 0x1d, 0xd0, 0x08, 0x1d, 0x95, 0x45, 0x98, 0x21, 0x91, 0x48, 0x94,
         0x48, 0xd0, 0x08, 0x1d, 0xd1, 0x08, 0x1d, 0xd4, 0x08, 0x1d, 0x80, 0x41, 0xe0, 0x0c, 0x0d,
         0xd8, 0x0c, 0x0d, 0xf0, 0x03, 0x01, 0x0c, 0x0f, 0xf0, 0x00, 0x01, 0x05, 0x0f},
        {{0, 2, 1}, {2, 52, 2}, {52, 54, 4}, {54, 56, 5}, {56, 60, 4}});
  }
  SECTION("3.13.0") {
    check_lines(
        {0x80, 0x00, 0xdc, 0x14, 0x19, 0x98, 0x21, 0x94, 0x48, 0xd3, 0x08, 0x1d,
         0x91, 0x48, 0x88, 0x71, 0x8a, 0x11, 0x91, 0x48, 0x80, 0x41, 0xd0, 0x08,
         0x1d, 0xe0, 0x0c, 0x0d, 0xd8, 0x0c, 0x0d, 0xf0, 0x03, 0x01, 0x0c, 0x0f,
         0xf0, 0x00, 0x01, 0x05, 0x0f, 0xf9, 0xf2, 0x05, 0x00, 0x09, 0x1e},
        {{0, 2, 1}, {2, 52, 2}, {52, 54, 4}, {54, 56, 5}, {56, 60, 4}, {60, 64, 0}, {64, 70, 2}});
  }
}

TEST_CASE("cpython_frames: any bytes whatever end in a line or none", "[runtimes]") {
  std::mt19937 random(5);
  for (int turn = 0; turn < 20'000; ++turn) {
    std::vector<unsigned char> table(random() % 40);
    for (unsigned char& byte : table) byte = static_cast<unsigned char>(random());
    CHECK(line_at(table.data(), table.size(), 10, random() % 100) >= 0);
  }
}
