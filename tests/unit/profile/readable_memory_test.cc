/* Memory that may not be there is asked for first. */
#include "profile/readable_memory.h"

#include <sys/mman.h>

#include <cstring>

#include <catch2/catch.hpp>

using memlimit::profile::ReadableMemory;

TEST_CASE("readable_memory: what is there is read, what is not is refused", "[profile]") {
  auto* const pages = static_cast<char*>(
      mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  REQUIRE(mprotect(pages + 2 * 4096, 4096, PROT_NONE) == 0);
  strcpy(pages + 4090, "across a page");
  ReadableMemory memory;
  const auto begin = reinterpret_cast<uintptr_t>(pages);
  char text[14] = {};
  CHECK(memory.copy(begin + 4090, text, sizeof text));
  CHECK(std::string(text) == "across a page");
  uintptr_t word = 0;
  CHECK(memory.read(begin + 8184, &word));
  CHECK_FALSE(memory.read(begin + 8192, &word));
  CHECK_FALSE(memory.copy(begin + 8190, text, 4));
  CHECK_FALSE(memory.has(begin, 2 * 4096 + 1));
  CHECK(memory.has(begin, size_t{2} * 4096));
  for (const uintptr_t nobodys : {uintptr_t{0}, uintptr_t{8}, uintptr_t{1} << 62, ~uintptr_t{7}}) {
    CHECK_FALSE(memory.read(nobodys, &word));
    CHECK_FALSE(memory.copy(nobodys, text, sizeof text));
  }
  CHECK_FALSE(memory.read(begin + 1, &word));
  const int answer = 42;
  int number = 0;
  CHECK(memory.get(reinterpret_cast<uintptr_t>(&answer), &number));
  CHECK(number == 42);
  munmap(pages, size_t{3} * 4096);
}
