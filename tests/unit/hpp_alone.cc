/* memlimit.hpp in a program that is linked with nothing of memlimit and runs without it: everything is
 * there, does nothing, and says so. Built as C++17 without exceptions and RTTI, and as C++20 with both. */
#include "memlimit.hpp"

#include <cerrno>
#include <cstdio>
#include <utility>

namespace {

int failures = 0;

void check(bool holds, int line) {
  if (holds) return;
  ++failures;
  fprintf(stderr, "hpp_alone.cc:%d: false\n", line);
}
#define CHECK(condition) check(condition, __LINE__)

}  // namespace

int main() {
  int calls = 0;
  CHECK(!memlimit::loaded());
  CHECK(!memlimit::hook::loaded());
  memlimit::hook hook{"alone", [&](const memlimit::request& request) -> std::int64_t {
                        ++calls;
                        return request.level == memlimit::level::over ? 1 : memlimit::cannot_now;
                      }};
  CHECK(!hook);
  CHECK(hook.error() == -ENOSYS);
  memlimit::hook other(std::move(hook));
  CHECK(other.error() == -ENOSYS);
  other.reset();
  CHECK(other.release() == 0);

  memlimit::charge charge{sizeof(int)};
  charge.resize(100);
  CHECK(charge.bytes() == 100);
  memlimit::charge taken(std::move(charge));
  CHECK(taken.release() == 100);

  CHECK(memlimit::limit() == 0);
  CHECK(memlimit::set_limit(1 << 20) == 0);
  CHECK(memlimit::limit() == 0);
  CHECK(memlimit::reclaim() == 0);
  CHECK(memlimit::poll_fd() == -ENOSYS);
  CHECK(memlimit::poll() == 0);
  CHECK(memlimit::stats().size == 0);
  CHECK(memlimit::stats().uptime_ns == 0);
  CHECK(calls == 0);
  return failures == 0 ? 0 : 1;
}
