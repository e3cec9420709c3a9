/* Counting: exact at rest, bounded in motion, whatever threads come, go and free for each other. */
#include "engine/account.h"

#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

namespace account = memlimit::account;

namespace {

void allocate(uint64_t bytes) {
  if (account::count_allocated(bytes)) account::publish_allocated(bytes);
}

void release(uint64_t bytes) {
  if (account::count_freed(bytes)) account::publish_freed(bytes);
}

int64_t heap() { return account::totals().heap_bytes(); }

/* A thread of the program: the preload layer would see its exit, here it says so itself. */
template <typename Body>
std::thread worker(Body body) {
  return std::thread([body] {
    body();
    account::thread_exit();
  });
}

}  // namespace

TEST_CASE("account: totals are exact to the byte between two publishes", "[account]") {
  const account::Totals before = account::totals();
  allocate(1);
  allocate(100'000);
  allocate(7);
  release(3);
  const account::Totals after = account::totals();
  CHECK(after.allocated_bytes - before.allocated_bytes == 100'008);
  CHECK(after.freed_bytes - before.freed_bytes == 3);
  release(100'005);
  CHECK(heap() == before.heap_bytes());
}

TEST_CASE("account: a free of unknown size is seen when its size is known", "[account]") {
  const int64_t before = heap();
  allocate(5000);
  REQUIRE(account::count_freed(account::kUnknownBytes));
  CHECK(heap() == before + 5000);
  CHECK_FALSE(account::recount_freed(2000));
  CHECK(heap() == before + 3000);
  release(3000);
  CHECK(heap() == before);
}

TEST_CASE("account: an allocation that is taken back was none", "[account]") {
  account::publish();
  const account::Totals before = account::totals();
  const auto most = static_cast<uint64_t>(account::quantum_bytes());
  REQUIRE_FALSE(account::count_allocated(100));
  CHECK(account::allowance_left());
  CHECK(heap() == before.heap_bytes() + 100);
  account::uncount_allocated(100);
  CHECK(heap() == before.heap_bytes());
  REQUIRE(account::count_allocated(most + 1));
  CHECK_FALSE(account::allowance_left());
  account::uncount_allocated(most + 1);
  CHECK(account::allowance_left());
  CHECK(account::totals().allocated_bytes == before.allocated_bytes);
  // A thread without counters has counted nothing, so there is nothing to take back.
  std::thread([] {
    REQUIRE(account::count_allocated(100));
    account::uncount_allocated(100);
  }).join();
  CHECK(account::totals().allocated_bytes == before.allocated_bytes);
}

TEST_CASE("account: a free of unknown size may be of any size", "[account]") {
  for (const uint64_t bytes :
       {account::kMostBytes - 1, account::kMostBytes, account::kUnknownBytes, uint64_t{1} << 40}) {
    const int64_t before = heap();
    allocate(bytes);
    REQUIRE(account::count_freed(account::kUnknownBytes));
    REQUIRE(account::recount_freed(bytes));
    CHECK(heap() == before);
    account::publish_freed(bytes);
    CHECK(heap() == before);
  }
}

TEST_CASE("account: the slow path comes once a quantum, and publishes all", "[account]") {
  account::publish();
  const int64_t quantum = account::quantum_bytes();
  const int64_t published = account::published_usage_bytes();
  int64_t told = 0;
  int64_t sum = 0;
  // The allowance is exhausted by the first byte beyond a quantum.
  while (sum < 5 * quantum) {
    sum += 64;
    if (account::count_allocated(64)) {
      account::publish_allocated(64);
      ++told;
      CHECK(account::published_usage_bytes() - published == sum);
    }
  }
  CHECK(told == 4);
  release(static_cast<uint64_t>(sum));
}

#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
TEST_CASE("account: a thread may be made to look up at its next allocation", "[account]") {
  account::publish();
  const account::Totals before = account::totals();
  REQUIRE_FALSE(account::count_allocated(100));
  account::look_at_next_allocation();
  account::look_at_next_allocation();
  CHECK(heap() == before.heap_bytes() + 100);
  REQUIRE(account::count_allocated(1));
  account::publish_allocated(1);
  CHECK(heap() == before.heap_bytes() + 101);
  REQUIRE_FALSE(account::count_allocated(1));
  release(102);
  CHECK(heap() == before.heap_bytes());
}

namespace {
void end_allowance(int) { account::look_at_next_allocation(); }
}  // namespace

TEST_CASE("account: counts stay exact wherever a signal ends an allowance", "[account]") {
  const account::Totals before = account::totals();
  const auto old_handler = std::signal(SIGALRM, end_allowance);
  const itimerval often{{0, 20}, {0, 20}}, never{};
  REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  int64_t sum = 0;
  for (int i = 0; i < 3'000'000; ++i) {
    allocate(3000);
    account::uncount_allocated(1000);
    release(2000);
    sum += 2000;
  }
  REQUIRE(setitimer(ITIMER_REAL, &never, nullptr) == 0);
  std::signal(SIGALRM, old_handler);
  const account::Totals after = account::totals();
  CHECK(after.allocated_bytes == before.allocated_bytes + sum);
  CHECK(after.heap_bytes() == before.heap_bytes());
}
#endif

TEST_CASE("account: a thread may look at each of its frees, and counts them as ever", "[account]") {
  const int64_t before = heap();
  const auto quantum = account::quantum_bytes();
  allocate(1'000'000);
  account::look_at_every_free(true);
  for (int i = 1; i <= 300; ++i) {
    REQUIRE(account::count_freed(1000));
    if (account::publish_is_due()) account::publish_freed(1000);
    REQUIRE(heap() == before + 1'000'000 - i * 1000);
    REQUIRE(account::published_usage_bytes() - account::totals().usage_bytes() <= quantum + 1000);
  }
  REQUIRE(account::count_freed(account::kUnknownBytes));
  CHECK(heap() == before + 700'000);
  CHECK(account::recount_freed(5000));
  CHECK(heap() == before + 695'000);
  account::look_at_every_free(false);
  CHECK_FALSE(account::count_freed(1000));
  release(694'000);
  CHECK(heap() == before);
}

TEST_CASE("account: a thread may look at each of its allocations, and counts them as ever",
          "[account]") {
  const int64_t before = heap();
  const auto quantum = account::quantum_bytes();
  account::look_at_every_allocation(true);
  account::publish();
  int64_t published = account::published_usage_bytes();
  int told = 0;
  for (int i = 1; i <= 300; ++i) {
    REQUIRE(account::count_allocated(1000));
    REQUIRE(heap() == before + i * 1000);
    if (!account::publish_is_due()) continue;
    account::publish_allocated(1000);
    ++told;
    CHECK(account::published_usage_bytes() - published >= quantum);
    published = account::published_usage_bytes();
  }
  CHECK(told == 300'000 / (quantum / 1000 * 1000 + 1000));
  // One that is taken back, and one after which a look is due wherever the last one was.
  REQUIRE(account::count_allocated(500));
  account::uncount_allocated(500);
  CHECK(heap() == before + 300'000);
#if defined(__x86_64__) && !MEMLIMIT_THREAD_SANITIZER
  account::publish();
  REQUIRE(account::count_allocated(16));
  CHECK_FALSE(account::publish_is_due());
  account::look_at_next_allocation();
  account::look_at_next_allocation();
  CHECK(account::publish_is_due());
  CHECK(heap() == before + 300'016);
  release(16);
#endif
  account::look_at_every_allocation(false);
  account::publish();
  CHECK_FALSE(account::count_allocated(1000));
  release(301'000);
  CHECK(heap() == before);
  // A thread without counters looks at each of them as it is.
  std::thread([] {
    account::look_at_every_allocation(true);
    CHECK_FALSE(memlimit::this_thread.looks_at_every_allocation);
  }).join();
}

TEST_CASE("account: threads that hand blocks to each other and exit leave nothing behind",
          "[account][threads]") {
  const int64_t before = heap();
  constexpr int kThreads = 8, kTurns = 20'000;
  // What each thread allocates, its neighbour frees.
  std::vector<std::atomic<int64_t>> debts(kThreads);
  std::vector<std::thread> threads;
  std::atomic<bool> stop{false};
  std::atomic<int64_t> lowest{0};
  std::thread reader([&] {
    while (!stop.load()) {
      const int64_t now = heap() - before;
      if (now < lowest.load()) lowest.store(now);
    }
  });
  for (int t = 0; t < kThreads; ++t) {
    threads.push_back(worker([&, t] {
      std::minstd_rand random(static_cast<unsigned>(t) + 1);
      for (int i = 0; i < kTurns; ++i) {
        const auto bytes = static_cast<uint64_t>(random() % 3000);
        allocate(bytes);
        debts[static_cast<size_t>(t)].fetch_add(static_cast<int64_t>(bytes),
                                                std::memory_order_release);
        const auto next = static_cast<size_t>((t + 1) % kThreads);
        release(static_cast<uint64_t>(debts[next].exchange(0, std::memory_order_acquire)));
      }
    }));
  }
  for (auto& thread : threads) thread.join();
  stop.store(true);
  reader.join();
  int64_t live = 0;
  for (auto& debt : debts) live += debt.load();
  CHECK(heap() - before == live);
  CHECK(lowest.load() == 0);
  release(static_cast<uint64_t>(live));
  CHECK(heap() == before);
}

TEST_CASE("account: published usage is off by at most a quantum a thread", "[account][threads]") {
  account::publish();
  const int64_t quantum = account::quantum_bytes();
  constexpr int kThreads = 6;
  std::vector<std::thread> threads;
  std::atomic<int> ready{0};
  std::atomic<bool> stop{false};
  for (int t = 0; t < kThreads; ++t) {
    threads.push_back(worker([&, t] {
      for (int i = 0; i < 1000 + t; ++i) allocate(777);
      ready.fetch_add(1);
      while (!stop.load()) std::this_thread::yield();
      for (int i = 0; i < 1000 + t; ++i) release(777);
    }));
  }
  while (ready.load() < kThreads) std::this_thread::yield();
  const int64_t off = account::totals().usage_bytes() - account::published_usage_bytes();
  CHECK(std::abs(off) <= (kThreads + 1) * quantum);
  stop.store(true);
  for (auto& thread : threads) thread.join();
}

TEST_CASE("account: two thousand short threads reuse nodes and lose no byte",
          "[account][threads]") {
  const int64_t before = heap();
  const int threads_before = account::thread_count();
  for (int i = 0; i < 2000; ++i) worker([] { allocate(123); }).join();
  CHECK(heap() - before == 2000 * 123);
  CHECK(account::thread_count() == threads_before);
  release(2000 * 123);
}

TEST_CASE("account: frees after a thread's destructors count at once", "[account][threads]") {
  const int64_t before = heap();
  allocate(10'000);
  std::thread([] {
    allocate(1);
    account::thread_exit();
    release(10'000);
    allocate(5);
  }).join();
  CHECK(heap() - before == 6);
  release(6);
}

TEST_CASE("account: charges are usage but not heap", "[account]") {
  const account::Totals before = account::totals();
  account::charge(1'000'000);
  CHECK(account::totals().usage_bytes() - before.usage_bytes() == 1'000'000);
  CHECK(account::totals().heap_bytes() == before.heap_bytes());
  account::charge(-400'000);
  CHECK(account::totals().charged_bytes - before.charged_bytes == 600'000);
  account::charge(-600'000);
  CHECK(account::totals().usage_bytes() == before.usage_bytes());
}

TEST_CASE("account: the peak is never below what was read", "[account]") {
  allocate(3'000'000);
  const int64_t high = heap();
  account::note_peak(high);
  release(3'000'000);
  CHECK(account::heap_peak_bytes() >= high);
}

TEST_CASE("account: the child of a fork keeps the counts and owns the nodes", "[account][fork]") {
  allocate(4321);
  std::atomic<bool> counted{false}, stop{false};
  std::thread other = worker([&] {
    allocate(1'000'000);
    allocate(99);
    counted.store(true);
    while (!stop.load()) std::this_thread::yield();
    release(1'000'099);
  });
  while (!counted.load()) std::this_thread::yield();
  const int64_t in_parent = heap();
  /* As in a hook that forks: in the child this is a thread as any other. */
  account::look_at_every_free(true);
  const pid_t child = fork();
  if (child == 0) {
    account::kForkPart.reset();
    bool good = heap() == in_parent && account::published_usage_bytes() == in_parent &&
                account::thread_count() == 1;
    allocate(10);
    good = good && heap() == in_parent + 10;
    good = good && !account::count_freed(10) && heap() == in_parent;
    _exit(good ? 0 : 1);
  }
  account::look_at_every_free(false);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  stop.store(true);
  other.join();
  release(4321);
}
