/* Names of mallctl and their MIBs, in a table of their own. */
#include "../preload/jemalloc_names.h"

#include <climits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

using namespace memlimit::jemalloc;

namespace {

constexpr Pattern kTable[] = {
    Pattern("epoch"),
    Pattern("arena.#.purge"),
    Pattern("arenas.bin.#.size"),
    Pattern("arenas.page"),
    Pattern("stats.arenas.#.bins.#.curregs"),
};

/* The row, or the table's length. */
size_t row_of(const std::optional<Place>& place) { return place ? place->row : std::size(kTable); }

size_t row_of(const std::string& name) { return row_of(find(kTable, name)); }
size_t row_of(const std::vector<size_t>& mib) { return row_of(find_mib(kTable, mib)); }

constexpr size_t kNone = std::size(kTable);

}  // namespace

TEST_CASE("jemalloc_names: a name is found by all of its parts", "[jemalloc]") {
  CHECK(row_of("epoch") == 0);
  CHECK(row_of("arena.0.purge") == 1);
  CHECK(row_of("arena.4096.purge") == 1);
  CHECK(row_of("arenas.bin.007.size") == 2);
  CHECK(row_of("stats.arenas.4096.bins.35.curregs") == 4);
  for (const char* const name :
       {"", ".", "epoch.", ".epoch", "epoch.x", "epo", "epochs", "arena.purge", "arena..purge",
        "arena.x.purge", "arena.1x.purge", "arena.-1.purge", "arena.#.purge", "arena.0.purge.",
        "arena.99999999999999999999.purge", "arenas.bin", "arenas.bin.1", "a.b.c.d.e.f.g.h",
        "stats.arenas.0.bins.1.curregs.more"}) {
    INFO(name);
    CHECK(row_of(std::string(name)) == kNone);
  }
}

TEST_CASE("jemalloc_names: indices stand in the MIB where they stand in the name", "[jemalloc]") {
  const auto place = find(kTable, "stats.arenas.12.bins.34.curregs");
  REQUIRE(place.has_value());
  CHECK(place->depth == 6);
  CHECK(place->mib[2] == 12);
  CHECK(place->mib[4] == 34);
  const auto largest = find(kTable, "arena." + std::to_string(ULONG_MAX) + ".purge");
  REQUIRE(largest.has_value());
  CHECK(largest->mib[1] == ULONG_MAX);
}

TEST_CASE("jemalloc_names: the beginning of a name has a MIB, which is not whole", "[jemalloc]") {
  const auto bin = find_beginning(kTable, "arenas.bin");
  REQUIRE(bin.has_value());
  CHECK(bin->row == 2);
  CHECK(bin->depth == 2);
  CHECK(row_of(std::vector<size_t>(bin->mib.begin(), bin->mib.begin() + 2)) == kNone);
  CHECK(row_of(find_beginning(kTable, "arenas.bin.3.size")) == 2);
  CHECK(row_of(find_beginning(kTable, "arenas.bin.x")) == kNone);
  CHECK(row_of(find_beginning(kTable, "arenas.bi")) == kNone);
  CHECK(row_of(find_beginning(kTable, "arenas.page.more")) == kNone);
}

TEST_CASE("jemalloc_names: a MIB leads where its name does, with other indices too", "[jemalloc]") {
  for (const char* const name :
       {"epoch", "arena.3.purge", "arenas.page", "stats.arenas.1.bins.2.curregs"}) {
    INFO(name);
    const auto place = find(kTable, name);
    REQUIRE(place.has_value());
    std::vector<size_t> mib(place->mib.begin(), place->mib.begin() + place->depth);
    CHECK(row_of(mib) == place->row);
    mib.push_back(0);
    CHECK(row_of(mib) == kNone);
  }
  const auto bin = find_mib(kTable, std::vector<size_t>{4, 0, 5, 0, 6, 0});
  REQUIRE(bin.has_value());
  CHECK(bin->mib[2] == 5);
  CHECK(bin->mib[4] == 6);
  CHECK(row_of(std::vector<size_t>{4, 1, 5, 0, 6, 0}) == kNone);
  CHECK(row_of(std::vector<size_t>{kNone}) == kNone);
  CHECK(row_of(std::vector<size_t>{}) == kNone);
  CHECK(row_of(std::vector<size_t>(8, 0)) == kNone);
}
