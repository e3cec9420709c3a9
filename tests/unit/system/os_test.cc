/* System calls whose sizes depend on the machine. */
#include "system/os.h"

#include <sys/mman.h>

#include <cstring>

#include <catch2/catch.hpp>

using namespace memlimit;

TEST_CASE("os: only pages that lie wholly in a range are dropped", "[os]") {
  constexpr size_t kBytes = 1 << 18;
  auto* const room = static_cast<unsigned char*>(os::map_pages(kBytes));
  REQUIRE(room != nullptr);
  // As where the kernel's pages are as large: it would drop what shares one with the range.
  constexpr size_t kPageBytes = 65536;
  auto* const begin = reinterpret_cast<unsigned char*>(
      (reinterpret_cast<uintptr_t>(room) + kPageBytes - 1) & ~(kPageBytes - 1));
  memset(begin, 1, 2 * kPageBytes + 4096);
  os::drop_pages(begin + 4096, 2 * kPageBytes, kPageBytes);
  CHECK(begin[kPageBytes - 1] == 1);
  CHECK(begin[kPageBytes] == 0);
  CHECK(begin[2 * kPageBytes - 1] == 0);
  CHECK(begin[2 * kPageBytes] == 1);
  os::drop_pages(begin + 4096, kPageBytes, kPageBytes);
  CHECK(begin[kPageBytes - 1] == 1);
  os::drop_pages(begin, 4096, kPageBytes);
  CHECK(begin[0] == 1);
  os::unmap_pages(room, kBytes);
}
