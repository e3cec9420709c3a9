/* The one header of Catch2 2, as the tests include it, from the many of Catch2 3: only in the way of the tests where that
 * is what there is. May go with Debian 12. */
#pragma once

#include <cstddef>

#include <catch2/catch_all.hpp>

using Catch::Approx;

namespace Catch::RunTests {
inline constexpr TestRunOrder InRandomOrder = TestRunOrder::Randomized;
}  // namespace Catch::RunTests

/* Of a range there, of a text here. */
namespace Catch::Matchers {
template <std::size_t kSize>
StringContainsMatcher Contains(const char (&part)[kSize]) {
  return ContainsSubstring(part);
}
}  // namespace Catch::Matchers
