/* While eight threads allocate, free and hand over, heap_alloc is never further from the truth than the stated bound:
 * the largest of 1 % of the limit, 1 MiB and 4 KiB a thread.
 *
 * The truth moves while one looks. It is therefore enclosed: what was surely allocated before the figures were read
 * and surely not freed after them, and the other way round; one operation a thread may be under way besides. Only
 * samples whose enclosure is narrow count, and only with enough work done since the one before; the run ends when
 * there are enough of them. */
#include <pthread.h>

#include <initializer_list>

#include "workload.h"

namespace {

constexpr size_t kLargestBytes = 4096;
constexpr int64_t kUnderWayBytes =
    workload::kThreads * int64_t{4} * 4096; /* block sizes round up by less than that */
constexpr int64_t kNarrowBytes = 512 << 10;
constexpr int64_t kApartBytes = 64 << 10; /* allocated between two samples that count */
constexpr int kNarrowSamples = 150;

alignas(workload::Worker) char worker_memory[workload::kThreads][sizeof(workload::Worker)];
std::atomic<bool> stop{false};
pthread_barrier_t ready, ended, may_exit;

void* run_worker(void* argument) {
  auto* worker = static_cast<workload::Worker*>(argument);
  pthread_barrier_wait(&ready);
  while (!stop.load(std::memory_order_relaxed)) worker->step();
  pthread_barrier_wait(&ended);
  pthread_barrier_wait(&may_exit);
  return nullptr;
}

struct Sums {
  int64_t allocated = 0, freed = 0;
};

Sums read_sums() {
  Sums sums;
  for (const auto& done : workload::done) {
    sums.freed += done.freed.load(std::memory_order_acquire);
    sums.allocated += done.allocated.load(std::memory_order_acquire);
  }
  return sums;
}

}  // namespace

int main() {
  need_library();
  settle();
  for (pthread_barrier_t* barrier : {&ready, &ended, &may_exit})
    pthread_barrier_init(barrier, nullptr, workload::kThreads + 1);
  pthread_t threads[workload::kThreads];
  workload::Worker* workers[workload::kThreads];
  for (int i = 0; i < workload::kThreads; ++i) {
    workers[i] = new (worker_memory[i]) workload::Worker(i, kLargestBytes);
    CHECK_EQ(pthread_create(&threads[i], nullptr, run_worker, workers[i]), 0);
  }
  const memlimit_stats before = stats_now();
  int64_t bound = int64_t{1} << 20;
  if (before.limit / 100 > bound) bound = before.limit / 100;

  pthread_barrier_wait(&ready);
  int64_t counted_at = 0;
  for (int narrow = 0; narrow < kNarrowSamples;) {
    const Sums first = read_sums();
    const memlimit_stats now = stats_now();
    const Sums last = read_sums();
    const int64_t lowest = first.allocated - last.freed - kUnderWayBytes;
    const int64_t highest = last.allocated - first.freed + kUnderWayBytes;
    const int64_t reported = now.heap_alloc - before.heap_alloc;
    if (reported < lowest - bound || reported > highest + bound) {
      finish_saying(1, "heap_alloc moved by %lld, the truth is within %lld..%lld",
                    static_cast<long long>(reported), static_cast<long long>(lowest),
                    static_cast<long long>(highest));
    }
    if (highest - lowest > kNarrowBytes + 2 * kUnderWayBytes) continue;
    if (first.allocated - counted_at < kApartBytes) continue;
    counted_at = first.allocated;
    ++narrow;
  }
  stop = true;
  pthread_barrier_wait(&ended);
  int64_t truth = workload::mailbox_bytes();
  for (const auto* worker : workers) truth += worker->held_bytes();
  CHECK_EQ(stats_now().heap_alloc - before.heap_alloc, truth);
  pthread_barrier_wait(&may_exit);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
  return 0;
}
