/* The second thread, with this one as the service thread. */
#include "engine/relief.h"

#include <atomic>
#include <thread>

#include <catch2/catch.hpp>

namespace relief = memlimit::service::relief;

namespace {

std::atomic<int> served{0};
std::atomic<int> wakes{0};
std::thread::id server;
int handed_over =
    0; /* no atomic: whoever serves has it alone, which the thread sanitizer looks at */

void serve() {
  server = std::this_thread::get_id();
  ++handed_over;
  served.fetch_add(1);
  while (relief::on_duty()) std::this_thread::yield();
  ++handed_over;
}

void wake() { wakes.fetch_add(1); }

void wait_until_served(int times) {
  while (served.load() < times) std::this_thread::yield();
}

/* Of a test: nobody serves before or after it. */
struct Relief {
  Relief() {
    served = wakes = handed_over = 0;
    REQUIRE(relief::count() == 0);
  }
  ~Relief() { relief::dismiss(); }
};

}  // namespace

TEST_CASE("relief: who is away for long is stood in for until it comes back", "[relief]") {
  const Relief only_here;
  for (int i = 1; i <= 2; ++i) {
    relief::leave([]() noexcept { serve(); });
    CHECK(relief::count() == 1);
    wait_until_served(i);
    relief::come_back([]() noexcept { wake(); });
    CHECK(server != std::this_thread::get_id());
    CHECK(handed_over == 2 * i);
    CHECK(wakes == i);
  }
  relief::dismiss();
  CHECK(relief::count() == 0);
}

TEST_CASE("relief: short absences in a row are nobody's", "[relief]") {
  const Relief only_here;
  // Each of them is another one, however long all take together; one that the machine makes long may be stood in for.
  for (int i = 0; i < 100'000; ++i) {
    relief::leave([]() noexcept { serve(); });
    ++handed_over;
    relief::come_back([]() noexcept { wake(); });
    handed_over = 0;
  }
  CHECK(served < 100);
  CHECK(relief::count() == 1);
}

TEST_CASE("relief: is dismissed while it sleeps, and made anew", "[relief]") {
  const Relief only_here;
  for (int i = 1; i <= 3; ++i) {
    relief::leave([]() noexcept { serve(); });
    relief::come_back([]() noexcept { wake(); });
    relief::dismiss();
    CHECK(relief::count() == 0);
  }
  relief::leave([]() noexcept { serve(); });
  wait_until_served(1);
  relief::come_back([]() noexcept { wake(); });
}

TEST_CASE("relief: in the child of a fork that a hook made nobody waits", "[relief]") {
  const Relief only_here;
  relief::leave([]() noexcept { serve(); });
  wait_until_served(1);
  relief::dismiss(); /* the child has it not */
  relief::reset_after_fork();
  relief::come_back([]() noexcept { wake(); });
  CHECK(relief::count() == 0);
}
