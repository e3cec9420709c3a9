/* Guesses at the word that was meant. */
#include "settings/spelling.h"

#include <iterator>
#include <string>

#include <catch2/catch.hpp>

using memlimit::nearest;

TEST_CASE("spelling: a word that is nearly one of the candidates is taken for it", "[spelling]") {
  CHECK(nearest("off", {"on", "off"}) == "off");
  CHECK(nearest("OFF", {"on", "off"}) == "off");
  CHECK(nearest("aut", {"auto", "none"}) == "auto");
  CHECK(nearest("cgruop", {"heap", "rss", "cgroup"}) == "cgroup");
  const std::string_view names[] = {"MEMLIMIT", "MEMLIMIT_START"};
  CHECK(nearest("MEMLIMIT_STRT", names, std::size(names)) == "MEMLIMIT_START");
}

TEST_CASE("spelling: of two that are as close the first is taken", "[spelling]") {
  CHECK(nearest("rst", {"rss", "rsu"}) == "rss");
}

TEST_CASE("spelling: another word is no misspelling", "[spelling]") {
  CHECK(nearest("", {"on", "off"}).empty());
  CHECK(nearest("yes", {"auto", "none"}).empty());
  CHECK(nearest("heapless", {"heap"}).empty());
  CHECK(nearest(std::string(33, 'x'), {"x"}).empty());
  CHECK(nearest("x", {std::string_view("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")}).empty());
}
