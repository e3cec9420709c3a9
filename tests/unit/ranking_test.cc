/* Ranking: who is asked first, who is left alone. */
#include "ranking.h"

#include <vector>

#include <catch2/catch.hpp>

using memlimit::hook_ran;
using memlimit::HookFigures;

TEST_CASE("ranking: fruitful hooks first, new ones before them", "[ranking]") {
  HookFigures slow, fast, fresh;
  hook_ran(slow,
           {.round = 1, .wanted_bytes = 1 << 20, .freed_bytes = 1 << 20, .elapsed_ns = 9000000});
  hook_ran(fast,
           {.round = 1, .wanted_bytes = 1 << 20, .freed_bytes = 1 << 20, .elapsed_ns = 90000});
  const HookFigures* hooks[] = {&slow, nullptr, &fast, &fresh};
  uint16_t out[4];
  REQUIRE(memlimit::order(2, hooks, 4, false, out) == 3);
  CHECK(out[0] == 3);
  CHECK(out[1] == 2);
  CHECK(out[2] == 0);
}
