/* An ASYNC hook frees what other threads allocated, and the library hands such blocks to whoever allocates next: while threads
 * work, end and are followed by others, wait, and while the program forks. No block is used twice or lost, and every byte is
 * counted. */
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "check.h"

namespace {

constexpr int kThreads = 3;
constexpr int kGenerations = 8;
constexpr int kBlocksEach = 40'000;
constexpr int64_t kMostLeftBytes = 128 << 20;
constexpr int64_t kToleranceBytes = 64 << 10; /* what libc keeps of ended threads */

struct Block {
  uint64_t* words;
  size_t count;
  uint64_t stamp;
};

std::mutex lock;
std::vector<Block> blocks;  // the oldest first, from `oldest` on
size_t oldest = 0;
std::atomic<int64_t> freed_by_hook{0};

void check(const Block& block) {
  for (size_t i = 0; i < block.count; i += 7) CHECK_EQ(block.words[i], block.stamp);
  CHECK_EQ(block.words[block.count - 1], block.stamp);
}

Block make(uint64_t* seed) {
  /* From 16 bytes to 6 KiB: some are handed on, and some are too small or too large for that. */
  const uint64_t random = next_random(seed);
  const size_t count = 2 + random % (random % 16 == 0 ? 768 : 128);
  auto* const words = static_cast<uint64_t*>(std::malloc(count * sizeof(uint64_t)));
  CHECK(words != nullptr);
  for (size_t i = 0; i < count; ++i) words[i] = random;
  return {words, count, random};
}

/* The caller has the lock. */
int64_t free_oldest() {
  const Block block = blocks[oldest++];
  check(block);
  std::free(block.words);
  return static_cast<int64_t>(block.count * sizeof(uint64_t));
}

int64_t evict(const memlimit_request* request, void*) {
  int64_t freed = 0;
  const std::lock_guard<std::mutex> guard(lock);
  while (oldest < blocks.size() && freed < request->wanted_bytes) freed += free_oldest();
  freed_by_hook += freed;
  return freed;
}

void fill(uint64_t seed) {
  for (int i = 0; i < kBlocksEach; ++i) {
    const Block block = make(&seed);
    const std::lock_guard<std::mutex> guard(lock);
    blocks.push_back(block);
  }
}

/* In the child, where nobody else is: its blocks are its own, whatever was on its way when it was forked, and so are
 * those that the hook now frees. */
void child() {
  uint64_t seed = 77;
  std::vector<Block> own;
  for (int i = 0; i < 3000; ++i) own.push_back(make(&seed));
  for (const Block& block : own) {
    check(block);
    std::free(block.words);
  }
  memlimit_reclaim(0);
  _exit(0);
}

void fork_once() {
  lock.lock(); /* or it stays locked in the child, whose hook wants it */
  const pid_t pid = fork();
  lock.unlock();
  CHECK(pid >= 0);
  if (pid == 0) child();
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(status, 0);
}

}  // namespace

int main() {
  need_library();
  settle();
  blocks.reserve(static_cast<size_t>(kThreads) * kGenerations * kBlocksEach);
  const memlimit_hook hook = {sizeof hook, "oldest", MEMLIMIT_ASYNC, evict, nullptr};
  memlimit_hook_id id = 0;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  const int64_t before = stats_now().heap_alloc;

  for (uint64_t generation = 0; generation < kGenerations; ++generation) {
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < kThreads; ++i)
      threads.emplace_back(fill, generation * kThreads + i + 1);
    for (int i = 0; i < 4; ++i) fork_once();
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(freed_by_hook > 32 << 20);
  /* What is kept for nobody comes back, too. */
  memlimit_reclaim(0);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  while (oldest < blocks.size()) free_oldest();
  memlimit_reclaim(0);
  /* Over half a gigabyte went through: what was left and never freed would show. */
  CHECK(stats_now().rss_anon < kMostLeftBytes);
  const int64_t difference = stats_now().heap_alloc - before;
  if (difference > kToleranceBytes || difference < -kToleranceBytes)
    finish_saying(1, "%lld bytes more than before", static_cast<long long>(difference));
  return 0;
}
