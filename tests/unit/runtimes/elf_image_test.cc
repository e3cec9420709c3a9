/* Symbols found by walking an image's tables are those that the loader finds. */
#include "runtimes/elf_image.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>

#include <catch2/catch.hpp>

using memlimit::runtimes::ElfImage;
using memlimit::runtimes::HashedName;
using memlimit::runtimes::image_of;

namespace {

/* By a function that no sanitizer puts its own in front of. */
ElfImage libc_image() {
  ElfImage image;
  REQUIRE(image_of(dlsym(RTLD_DEFAULT, "gnu_get_libc_version"), &image));
  return image;
}

int some_function() { return 7; }

}  // namespace

TEST_CASE("elf_image: finds what dlsym finds", "[elf_image]") {
  const ElfImage libc = libc_image();
  CHECK(strstr(libc.path(), "libc") != nullptr);
  int found = 0;
  for (const char* name : {"qsort", "strtol", "environ", "getaddrinfo", "fork", "_exit", "putenv",
                           "gnu_get_libc_version"}) {
    void* const address = libc.symbol(name);
    CHECK(address != nullptr);
    // A sanitizer puts its own in front of some.
    found += address == dlsym(RTLD_DEFAULT, name);
  }
  CHECK(found >= 2);
}

TEST_CASE("elf_image: a name that is not there is not found", "[elf_image]") {
  const ElfImage libc = libc_image();
  CHECK(libc.symbol("no_such_function_anywhere") == nullptr);
  CHECK(libc.symbol("") == nullptr);
  // Used by libc, defined elsewhere.
  CHECK(libc.symbol("_dl_catch_exception_that_is_not") == nullptr);
}

TEST_CASE("elf_image: a name with its hash finds the same", "[elf_image]") {
  const ElfImage libc = libc_image();
  constexpr HashedName kNames[] = {"qsort", "strtol", "environ", "getaddrinfo",
                                   "fork",  "putenv", "errno",   "no_such_function_anywhere"};
  for (const HashedName& name : kNames) {
    INFO(name.text);
    CHECK(libc.symbol(name) == libc.symbol(name.text));
  }
  CHECK(libc.symbol(kNames[0]) != nullptr);
}

TEST_CASE("elf_image: thread-local and indirect symbols are refused", "[elf_image]") {
  const ElfImage libc = libc_image();
  CHECK(libc.symbol("errno") == nullptr);
#if defined(__x86_64__) && defined(__GLIBC__)
  CHECK(libc.symbol("strlen") == nullptr);
#endif
}

TEST_CASE("elf_image: tells which image an address belongs to", "[elf_image]") {
  const ElfImage libc = libc_image();
  ElfImage own;
  REQUIRE(image_of(reinterpret_cast<const void*>(&some_function), &own));
  CHECK(own.contains(reinterpret_cast<const void*>(&some_function)));
  CHECK_FALSE(own.contains(libc.symbol("qsort")));
  CHECK_FALSE(libc.contains(reinterpret_cast<const void*>(&some_function)));
  int on_stack = some_function();
  CHECK_FALSE(image_of(&on_stack, &own));
}

TEST_CASE("elf_image: every loaded image can be asked", "[elf_image]") {
  int images = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* arg) {
        ElfImage image;
        if (image.open(*info)) {
          CHECK(image.symbol("no_such_function_anywhere") == nullptr);
          ++*static_cast<int*>(arg);
        }
        return 0;
      },
      &images);
  CHECK(images >= 2);
}

TEST_CASE("elf_image: knows what it is linked with, and by which name", "[elf_image]") {
  const ElfImage libc = libc_image();
  CHECK(libc.answers_to("libc.so.6"));
  CHECK_FALSE(libc.answers_to("libc.so"));
  ElfImage own;
  REQUIRE(image_of(reinterpret_cast<const void*>(&some_function), &own));
  CHECK_FALSE(own.answers_to("libc.so.6"));
  int found = 0;
  const char* name;
  for (size_t i = 0; (name = own.needed(i)) != nullptr; ++i) found += libc.answers_to(name);
  CHECK(found == 1);
  const auto address = reinterpret_cast<uintptr_t>(&some_function);
  CHECK((own.begin() <= address && address < own.end()));
  CHECK_FALSE((libc.begin() <= address && address < libc.end()));
}

TEST_CASE("elf_image: knows how long a function is", "[elf_image]") {
  const ElfImage libc = libc_image();
  Dl_info info{};
  void* symbol = nullptr;
  REQUIRE(dladdr1(libc.symbol("qsort"), &info, &symbol, RTLD_DL_SYMENT) != 0);
  REQUIRE(symbol != nullptr);
  const size_t bytes = static_cast<const ElfW(Sym)*>(symbol)->st_size;
  CHECK(libc.symbol_bytes("qsort") == bytes);
  CHECK(libc.symbol_bytes("qsort") > 0);
  CHECK(libc.symbol_bytes("there_is_no_such_function") == 0);
}
