/* Which generations are collected: young ones first, as long as that pays. */
#include "runtimes/generation.h"

#include <catch2/catch.hpp>

using memlimit::runtimes::GenerationChoice;

TEST_CASE("generation: young ones that give enough are all that is collected", "[generation]") {
  GenerationChoice choice;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(choice.young_first());
    REQUIRE(choice.young_done(1000, 1000));
  }
}

TEST_CASE("generation: too little from the young ones means all at once", "[generation]") {
  GenerationChoice choice;
  REQUIRE(choice.young_first());
  CHECK_FALSE(choice.young_done(999, 1000));
  // Once is no habit.
  CHECK(choice.young_first());
}

TEST_CASE("generation: young ones that never pay are tried ever more rarely", "[generation]") {
  GenerationChoice choice;
  int tried = 0;
  int longest_pause = 0;
  int pause = 0;
  for (int i = 0; i < 200; ++i) {
    if (choice.young_first()) {
      ++tried;
      pause = 0;
      choice.young_done(0, 1000);
    } else {
      longest_pause = std::max(longest_pause, ++pause);
    }
  }
  CHECK(tried < 20);
  CHECK(tried > 10);
  CHECK(longest_pause == 14);
}

TEST_CASE("generation: one success and they are tried each time again", "[generation]") {
  GenerationChoice choice;
  for (int i = 0; i < 50; ++i) {
    if (choice.young_first()) choice.young_done(0, 1000);
  }
  while (!choice.young_first()) {
  }
  CHECK(choice.young_done(5000, 1000));
  for (int i = 0; i < 10; ++i) {
    REQUIRE(choice.young_first());
    choice.young_done(5000, 1000);
  }
}
