/* A parent forks while its other threads allocate, free and come and go; every child allocates, frees blocks of the
 * parent's, creates threads and exits. A lock left held in the child would hang it. */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <atomic>

#include "check.h"

namespace {

constexpr int kChurners = 3;
constexpr int kForks = 200;
std::atomic<bool> stop{false};
std::atomic<void*> shelf[64];

void churn(uint64_t* random, int steps) {
  for (int i = 0; i < steps; ++i) {
    size_t size = next_random(random) % 2000;
    if (next_random(random) % 100 == 0) size = next_random(random) % (1 << 20);
    void* block = malloc(size);
    CHECK(block != nullptr);
    if (size > 0) *static_cast<volatile char*>(block) = 1;
    free(shelf[next_random(random) % 64].exchange(block));
  }
}

void* run_churner(void* seed) {
  uint64_t random = reinterpret_cast<uintptr_t>(seed);
  while (!stop.load(std::memory_order_relaxed)) churn(&random, 500);
  return nullptr;
}

void* run_short_thread(void* seed) {
  uint64_t random = reinterpret_cast<uintptr_t>(seed);
  churn(&random, 50);
  return nullptr;
}

/* Keeps creating and joining threads: the allocator's registration of threads is under way at some forks. */
void* run_creator(void*) {
  for (uintptr_t seed = 1000; !stop.load(std::memory_order_relaxed); ++seed) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, nullptr, run_short_thread, reinterpret_cast<void*>(seed)), 0);
    CHECK_EQ(pthread_join(thread, nullptr), 0);
  }
  return nullptr;
}

[[noreturn]] void run_child(int number) {
  uint64_t random = static_cast<uint64_t>(number) + 1;
  for (auto& place : shelf) free(place.exchange(nullptr));
  churn(&random, 500);
  pthread_t threads[2];
  for (auto& thread : threads)
    CHECK_EQ(
        pthread_create(&thread, nullptr, run_short_thread, reinterpret_cast<void*>(uintptr_t{77})),
        0);
  for (auto& thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
  churn(&random, 500);
  if (number % 2 == 0) exit(0);
  _exit(0);
}

}  // namespace

int main() {
  pthread_t threads[kChurners + 1];
  for (uintptr_t i = 0; i < kChurners; ++i)
    CHECK_EQ(pthread_create(&threads[i], nullptr, run_churner, reinterpret_cast<void*>(i + 1)), 0);
  CHECK_EQ(pthread_create(&threads[kChurners], nullptr, run_creator, nullptr), 0);
  uint64_t random = 4711;
  for (int number = 0; number < kForks; ++number) {
    churn(&random, 200);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) run_child(number);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  stop = true;
  for (auto& thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
  return 0;
}
