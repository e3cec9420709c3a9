/* What CPython's main thread waits for is what it asked for, in slices. */
#include "runtimes/cpython_waits.h"

#include <cerrno>
#include <vector>

#include <semaphore.h>

#include <catch2/catch.hpp>

using namespace memlimit::runtimes;

namespace {

struct Asked {
  clockid_t clock;
  timespec until;
};
std::vector<Asked> asked;
int slices_left = 0;
int last_errno = 0; /* 0: the semaphore is there */

/* Times out so many times, without waiting. */
int fake_wait(sem_t*, clockid_t clock, const timespec* until) {
  asked.push_back({clock, *until});
  errno = slices_left-- > 0 ? ETIMEDOUT : last_errno;
  return errno == 0 ? 0 : -1;
}

int wait(clockid_t clock, const timespec* deadline, int slices, int then) {
  asked.clear();
  slices_left = slices;
  last_errno = then;
  sem_t semaphore;
  return cpython_waits::wait(&semaphore, clock, deadline, fake_wait);
}

timespec from_now(clockid_t clock, int seconds) {
  timespec time{};
  clock_gettime(clock, &time);
  time.tv_sec += seconds;
  return time;
}

bool same(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

TEST_CASE("cpython_waits: a wait without end goes on while nothing is queued", "[cpython_waits]") {
  CHECK(wait(CLOCK_MONOTONIC, nullptr, 5, 0) == 0);
  CHECK(asked.size() == 6);
  for (const Asked& slice : asked) CHECK(slice.until.tv_nsec < 1'000'000'000);
}

TEST_CASE("cpython_waits: a process that rests is woken every ten seconds", "[cpython_waits]") {
  CHECK(wait(CLOCK_MONOTONIC, nullptr, 8, 0) == 0);
  REQUIRE(asked.size() == 9);
  // The first slice is as long as it would be in one that works; these come at once, and take no time.
  const timespec now = from_now(CLOCK_MONOTONIC, 0);
  CHECK(asked.front().until.tv_sec <= now.tv_sec + 5);
  CHECK(asked.back().until.tv_sec >= now.tv_sec + 5);
  CHECK(asked.back().until.tv_sec <= now.tv_sec + 10);
}

TEST_CASE("cpython_waits: a deadline is kept to the nanosecond", "[cpython_waits]") {
  const timespec past = from_now(CLOCK_REALTIME, -1);
  CHECK(wait(CLOCK_REALTIME, &past, 1, 0) == -1);
  CHECK(errno == ETIMEDOUT);
  REQUIRE(asked.size() == 1);
  CHECK(same(asked[0].until, past));
  CHECK(asked[0].clock == CLOCK_REALTIME);

  const timespec later = from_now(CLOCK_MONOTONIC, 3600);
  CHECK(wait(CLOCK_MONOTONIC, &later, 3, 0) == 0);
  CHECK(asked.size() == 4);
  for (const Asked& slice : asked) {
    CHECK(slice.clock == CLOCK_MONOTONIC);
    CHECK(slice.until.tv_sec < later.tv_sec - 3000);
  }
}

TEST_CASE("cpython_waits: a signal and an error come through at once", "[cpython_waits]") {
  for (const int error : {EINTR, EINVAL}) {
    CHECK(wait(CLOCK_MONOTONIC, nullptr, 2, error) == -1);
    CHECK(errno == error);
    CHECK(asked.size() == 3);
  }
}

TEST_CASE("cpython_waits: concerns nobody but the functions it knows", "[cpython_waits]") {
  alignas(16) static const char function[64] = {};
  CHECK_FALSE(cpython_waits::concerns(nullptr));
  CHECK_FALSE(cpython_waits::concerns(function));
  cpython_waits::Code code;
  const auto begin = reinterpret_cast<uintptr_t>(function);
  code.begin = begin;
  code.bytes = sizeof function;
  CHECK(code.contains(begin));
  CHECK(code.contains(begin + 63));
  CHECK_FALSE(code.contains(begin + 64));
  CHECK_FALSE(code.contains(begin - 1));
}
