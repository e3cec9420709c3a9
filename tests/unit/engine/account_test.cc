/* The ledger: what threads tell adds up, charges are no heap, the peak is never below what was read. That the allocator
 * counts exactly is its own tests' (heap/heap_test.cc). */
#include "engine/account.h"

#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "engine/allocator.h"
#include "support/pretended_allocator.h"

namespace account = memlimit::account;
namespace pretended = memlimit::test::pretended;
using pretended::allocate;
using pretended::release;

namespace {

struct Ledger {
  Ledger() {
    memlimit::set_allocator(pretended::kOps);
    pretended::publish_own(false);
  }
};

int64_t heap() { return account::totals().heap_bytes(); }

/* Whether the child of a fork publishes so much usage, and counts from there. */
bool has_begun_anew(int64_t usage_bytes) {
  return account::published_usage_bytes() == usage_bytes &&
         account::heap_peak_bytes() == usage_bytes - account::totals().charged_bytes &&
         account::publish_count() == 0;
}

template <typename Holds>
void check_child(Holds holds) {
  const pid_t child = fork();
  if (child == 0) _exit(holds() ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace

TEST_CASE("account: totals are the allocator's, published are what was told", "[account]") {
  const Ledger ledger;
  const account::Totals before = account::totals();
  const int64_t published = account::published_usage_bytes();
  allocate(1000);
  release(300);
  CHECK(account::totals().allocated_bytes - before.allocated_bytes == 1000);
  CHECK(account::totals().freed_bytes - before.freed_bytes == 300);
  CHECK(account::published_usage_bytes() == published);
  pretended::publish_own(false);
  CHECK(account::published_usage_bytes() == published + 700);
  release(700);
  pretended::publish_own(false);
  CHECK(heap() == before.heap_bytes());
}

TEST_CASE("account: what threads keep for themselves is held, and no part of the peak",
          "[account]") {
  const Ledger ledger;
  const int64_t held = account::published_usage_bytes();
  account::note_peak(heap());
  const int64_t peak = account::heap_peak_bytes();
  account::publish(5'000'000 + static_cast<uint64_t>(peak), 0, 4'000'000);
  CHECK(account::published_usage_bytes() == held + 5'000'000 + peak);
  CHECK(account::heap_peak_bytes() >= peak + 1'000'000);
  CHECK(account::heap_peak_bytes() < peak + 5'000'000);
  account::publish(0, 5'000'000 + static_cast<uint64_t>(peak), -4'000'000);
  CHECK(account::published_usage_bytes() == held);
}

TEST_CASE("account: what many threads tell adds up", "[account][threads]") {
  const Ledger ledger;
  const int64_t published = account::published_usage_bytes();
  const uint64_t told = account::publish_count();
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= 8; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 10'000; ++i) account::publish(3 * t, t, 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(account::published_usage_bytes() - published == 2 * 36 * 10'000);
  CHECK(account::publish_count() - told == 80'000);
  account::publish(0, 2 * 36 * 10'000, 0);
}

TEST_CASE("account: charges are usage but not heap", "[account]") {
  const Ledger ledger;
  const account::Totals before = account::totals();
  const int64_t published = account::published_usage_bytes();
  account::charge(1'000'000);
  CHECK(account::published_usage_bytes() - published == 1'000'000);
  CHECK(account::totals().usage_bytes() - before.usage_bytes() == 1'000'000);
  CHECK(account::totals().heap_bytes() == before.heap_bytes());
  account::charge(-400'000);
  CHECK(account::totals().charged_bytes - before.charged_bytes == 600'000);
  account::charge(-600'000);
  CHECK(account::totals().usage_bytes() == before.usage_bytes());
  CHECK(account::published_usage_bytes() == published);
}

TEST_CASE("account: the peak is never below what was read", "[account]") {
  const Ledger ledger;
  allocate(3'000'000);
  const int64_t high = heap();
  account::note_peak(high);
  release(3'000'000);
  CHECK(account::heap_peak_bytes() >= high);
}

TEST_CASE("account: in the child of a fork what is published stays, and the peak begins with it",
          "[account][fork]") {
  const Ledger ledger;
  account::charge(77);
  allocate(4321);
  account::note_peak(account::totals().usage_bytes() + 100'000);
  const int64_t published = account::published_usage_bytes();
  check_child([published] {
    account::kForkPart.reset();
    return has_begun_anew(published);
  });
  account::charge(-77);
  release(4321);
  pretended::publish_own(false);
}

TEST_CASE("account: what is published is counted anew where threads were left behind",
          "[account][fork]") {
  const Ledger ledger;
  account::charge(77);
  allocate(4321);
  const int64_t usage = account::totals().usage_bytes();
  REQUIRE(account::published_usage_bytes() != usage);
  check_child([usage] {
    account::count_anew();
    account::kForkPart.reset();
    return has_begun_anew(usage);
  });
  account::charge(-77);
  release(4321);
  pretended::publish_own(false);
}
