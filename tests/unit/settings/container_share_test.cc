/* Percentages of a container's memory, by numbers worked out by hand. */
#include "settings/container_share.h"

#include <catch2/catch.hpp>

using memlimit::container_limit;
using memlimit::percent_of;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

}  // namespace

TEST_CASE("container_share: percentages, by numbers worked out by hand", "[container_share]") {
  CHECK(percent_of(1000, 95) == 950);  // and not 95000
  CHECK(percent_of(536870912, 80) == 429496729);
  CHECK(percent_of(536870912, 90) == 483183820);
  CHECK(percent_of(1073741824, 75) == 805306368);
  CHECK(percent_of(199, 50) == 99);
  CHECK(percent_of(99, 1) == 0);
  CHECK(percent_of(100, 1) == 1);
  CHECK(percent_of(101, 99) == 99);
  CHECK(percent_of(12345678901234567, 33) == 4074074037407407);
  CHECK(percent_of(INT64_MAX, 100) == INT64_MAX);
  CHECK(percent_of(INT64_MAX, 90) == 8301034833169298226);
  CHECK(percent_of(INT64_MAX, 1) == 92233720368547758);
  CHECK(percent_of(INT64_MAX, 101) == INT64_MAX);
  CHECK(percent_of(INT64_MAX, 1000000) == INT64_MAX);
  CHECK(percent_of(0, 90) == 0);
  CHECK(percent_of(-1, 90) == 0);
  CHECK(percent_of(1000, 0) == 0);
  CHECK(percent_of(1000, -5) == 0);
}

TEST_CASE(
    "container_share: a container's limit is its share to the byte, and off for an unknown "
    "container",
    "[container_share]") {
  CHECK(container_limit(512 * kMiB, 80) == 429496729);
  CHECK(container_limit(512 * kMiB, 90) == 483183820);
  CHECK(container_limit(48 * kMiB, 80) == 40265318);
  CHECK(container_limit(32 * kMiB, 90) == 30198988);
  CHECK(container_limit(4096, 1) == 40);
  CHECK(container_limit(99, 1) == 1);
  CHECK(container_limit(0, 90) == 0);
  CHECK(container_limit(-1, 90) == 0);
}
