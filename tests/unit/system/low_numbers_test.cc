/* Who opens while one of 0, 1 and 2 is free: never our thread, until it is clear that it stays so. */
#include "system/low_numbers.h"

#include <cerrno>
#include <thread>

#include <catch2/catch.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include "system/os.h"

using namespace memlimit;

namespace {

constexpr unsigned kAll = 7;
constexpr unsigned kNoInput = 6;
constexpr unsigned kNone = 0;
constexpr int64_t kStart = 1'000;
constexpr int64_t kPatience = LowNumbers::kPatienceNs;

}  // namespace

TEST_CASE("low numbers: a stream that was open is waited for", "[system]") {
  LowNumbers numbers;
  CHECK(numbers.may_take(kAll, kStart));
  CHECK_FALSE(numbers.may_take(kNone, kStart + 1));
  CHECK_FALSE(numbers.may_take(kNoInput, kStart + kPatience));
  CHECK(numbers.may_take(kAll, kStart + kPatience));
}

TEST_CASE("low numbers: not for ever, and not again", "[system]") {
  LowNumbers numbers;
  numbers.may_take(kAll, kStart);
  CHECK_FALSE(numbers.may_take(kNoInput, kStart));
  CHECK_FALSE(numbers.may_take(kNoInput, kStart + kPatience - 1));
  CHECK(numbers.may_take(kNoInput, kStart + kPatience));
  CHECK(numbers.may_take(kNoInput, kStart + kPatience + 1));
  // The others still are.
  CHECK_FALSE(numbers.may_take(kNone, kStart + kPatience + 2));
}

TEST_CASE("low numbers: each time anew", "[system]") {
  LowNumbers numbers;
  numbers.may_take(kAll, kStart);
  CHECK_FALSE(numbers.may_take(kNone, kStart));
  CHECK(numbers.may_take(kAll, kStart + 10));
  CHECK_FALSE(numbers.may_take(kNone, kStart + kPatience));
  CHECK_FALSE(numbers.may_take(kNone, kStart + 2 * kPatience - 1));
  CHECK(numbers.may_take(kNone, kStart + 2 * kPatience));
}

TEST_CASE("low numbers: who began without a stream is served at once", "[system]") {
  LowNumbers numbers;
  CHECK(numbers.may_take(kNoInput, kStart));
  CHECK(numbers.may_take(kNoInput, kStart + 1));
  CHECK_FALSE(numbers.may_take(kNone, kStart + 2));
}

TEST_CASE("low numbers: a considerate thread reads no file meanwhile, another does", "[system]") {
  const pid_t child = fork();
  if (child == 0) {
    char text[64];
    int status = 0;
    // Its own thread, which the streams of the test's are nothing to.
    std::thread considerate([&] {
      low_numbers::be_considerate();
      if (os::read_file("/proc/self/comm", text, sizeof text) <= 0) status |= 1;
      close(STDIN_FILENO);
      if (os::open_read("/proc/self/comm") != -EAGAIN) status |= 2;
      if (os::read_file("/proc/self/comm", text, sizeof text) != -EAGAIN) status |= 4;
    });
    considerate.join();
    if (os::read_file("/proc/self/comm", text, sizeof text) <= 0) status |= 8;
    const int input = dup(STDOUT_FILENO);
    if (input != STDIN_FILENO) status |= 16;
    _exit(status);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
