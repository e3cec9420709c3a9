/* Eight threads run a random workload with hand-offs; whenever they rest, heap_alloc is the sum of
 * malloc_usable_size over all live blocks, to the byte, and total_alloc - total_freed has moved by the same. */
#include <pthread.h>

#include "workload.h"

namespace {

constexpr int kPhases = 25;
constexpr int kStepsPerPhase = 6000;

alignas(workload::Worker) char worker_memory[workload::kThreads][sizeof(workload::Worker)];
workload::Worker* workers[workload::kThreads];
pthread_barrier_t phase_begins, phase_ended;

void* run_worker(void* argument) {
  auto* worker = static_cast<workload::Worker*>(argument);
  for (int phase = 0; phase < kPhases; ++phase) {
    pthread_barrier_wait(&phase_begins);
    for (int i = 0; i < kStepsPerPhase; ++i) worker->step();
    pthread_barrier_wait(&phase_ended);
  }
  pthread_barrier_wait(&phase_begins);
  worker->release_all();
  pthread_barrier_wait(&phase_ended);
  pthread_barrier_wait(
      &phase_begins); /* until the last figures are read: thread exit frees blocks of libc's */
  return nullptr;
}

}  // namespace

int main() {
  need_library();
  settle();
  pthread_barrier_init(&phase_begins, nullptr, workload::kThreads + 1);
  pthread_barrier_init(&phase_ended, nullptr, workload::kThreads + 1);
  pthread_t threads[workload::kThreads];
  for (int i = 0; i < workload::kThreads; ++i) {
    workers[i] = new (worker_memory[i]) workload::Worker(i, size_t{2} << 20);
    CHECK_EQ(pthread_create(&threads[i], nullptr, run_worker, workers[i]), 0);
  }
  const memlimit_stats before = stats_now();

  for (int phase = 0; phase < kPhases; ++phase) {
    pthread_barrier_wait(&phase_begins);
    pthread_barrier_wait(&phase_ended);
    int64_t truth = workload::mailbox_bytes();
    for (const auto* worker : workers) truth += worker->held_bytes();
    CHECK(truth > 0);
    const memlimit_stats now = stats_now();
    CHECK_EQ(now.heap_alloc - before.heap_alloc, truth);
    CHECK_EQ((now.total_alloc - now.total_freed) - (before.total_alloc - before.total_freed),
             truth);
    int64_t allocated = 0, freed = 0;
    for (const auto& done : workload::done) {
      allocated += done.allocated.load();
      freed += done.freed.load();
    }
    CHECK_EQ(allocated - freed, truth);
    CHECK(now.heap_peak >= now.heap_alloc);
  }

  pthread_barrier_wait(&phase_begins);
  pthread_barrier_wait(&phase_ended);
  workload::empty_mailboxes();
  CHECK_EQ(stats_now().heap_alloc, before.heap_alloc);
  pthread_barrier_wait(&phase_begins);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
  return 0;
}
