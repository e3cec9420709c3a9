/* What collectors do by themselves after they were asked is charged, in part or whole. */
#include "runtimes/aftermath.h"

#include <catch2/catch.hpp>

namespace aftermath = memlimit::runtimes::aftermath;
using aftermath::CollectorTime;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;

TEST_CASE("aftermath: nothing is charged before the first collection", "[aftermath]") {
  CHECK(aftermath::charge_ns({}, {5 * kSecond, kSecond}) == 0);
  CHECK_FALSE(aftermath::is_at_it({}, {5 * kSecond, 5 * kSecond}));
}

TEST_CASE("aftermath: all of what follows within two seconds is charged", "[aftermath]") {
  const CollectorTime last{10 * kSecond, 3 * kSecond};
  CHECK(aftermath::charge_ns(last, {10 * kSecond + 100 * kMs, 3 * kSecond + 70 * kMs}) == 70 * kMs);
  CHECK(aftermath::charge_ns(last, {12 * kSecond, 3 * kSecond + 900 * kMs}) == 900 * kMs);
}

TEST_CASE("aftermath: of a longer time two seconds' share is charged", "[aftermath]") {
  const CollectorTime last{10 * kSecond, 3 * kSecond};
  CHECK(aftermath::charge_ns(last, {20 * kSecond, 4 * kSecond}) == 200 * kMs);
  // A collector that ran steadily for hours costs no more than one that did so for two seconds.
  const CollectorTime hours{10 * kSecond + 10'000 * kSecond, 3 * kSecond + 5'000 * kSecond};
  CHECK(aftermath::charge_ns(last, hours) == kSecond);
}

TEST_CASE("aftermath: threads that ended take their time with them, and nothing is given back",
          "[aftermath]") {
  const CollectorTime last{10 * kSecond, 3 * kSecond};
  CHECK(aftermath::charge_ns(last, {11 * kSecond, 2 * kSecond}) == 0);
  CHECK_FALSE(aftermath::is_at_it(last, {11 * kSecond, 2 * kSecond}));
}

TEST_CASE("aftermath: a collector is at it from half of a core on", "[aftermath]") {
  const CollectorTime last{10 * kSecond, 3 * kSecond};
  CHECK_FALSE(aftermath::is_at_it(last, {11 * kSecond, 3 * kSecond + 500 * kMs}));
  CHECK(aftermath::is_at_it(last, {11 * kSecond, 3 * kSecond + 501 * kMs}));
}

TEST_CASE("aftermath: beside the program its barriers are charged, too", "[aftermath]") {
  CHECK(aftermath::concurrent_ns(900 * kMs, 300 * kMs) == 500 * kMs);
  CHECK(aftermath::concurrent_ns(300 * kMs, 300 * kMs) == 300 * kMs);
  // The two are read one after the other.
  CHECK(aftermath::concurrent_ns(290 * kMs, 300 * kMs) == 300 * kMs);
}

TEST_CASE("aftermath: V8 begins again where a long collection left much unused", "[aftermath]") {
  constexpr int64_t mib = int64_t{1} << 20;
  CHECK(aftermath::collects_again(40 * mib, 8 * mib, 50 * kMs));
  CHECK_FALSE(aftermath::collects_again(40 * mib, 8 * mib - 1, 50 * kMs));
  CHECK_FALSE(aftermath::collects_again(40 * mib, 8 * mib, 50 * kMs - 1));
  CHECK(aftermath::collects_again(400 * mib, 40 * mib, 60 * kMs));
  CHECK_FALSE(aftermath::collects_again(400 * mib, 40 * mib - 1, 60 * kMs));
}

TEST_CASE(
    "aftermath: of an urgent collection a share is charged on top, and all of one that follows",
    "[aftermath]") {
  CHECK(aftermath::after_urgent_ns(100 * kMs, false) == 40 * kMs);
  CHECK(aftermath::after_urgent_ns(100 * kMs, true) == 140 * kMs);
}
