// Answers requests from a cache that it never bounds by itself: what bounds it is a reclaim hook.
//
// usage: cache_server PROCESSES THREADS REQUESTS
//
// With more than one process it preforks: each worker has a cache of its own, and they share the group. Keys
// follow a skewed distribution over far more than fits; a miss computes the page. Ends with "done". memlimit is
// linked weakly: without it the same program runs, and its cache grows.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_map>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "memlimit.h"

#pragma weak memlimit_hook_add

namespace {

constexpr uint64_t kKeys = 1 << 17;
constexpr size_t kMinPage = 2048, kMaxPage = 14336;

struct Page {
  uint64_t key;
  size_t size;
  std::unique_ptr<char[]> text;
};

// Some 30 microseconds of work: what a cache is there to save.
void render(Page& page) {
  uint64_t state = page.key;
  for (int pass = 0; pass < 4; ++pass) {
    for (size_t i = 0; i < page.size; ++i) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      page.text[i] = static_cast<char>(state >> 57);
    }
  }
  page.text[0] = static_cast<char>(page.key & 0x7f);
}

class Cache {
 public:
  uint64_t get(uint64_t key) {
    {
      const std::lock_guard<std::mutex> guard(lock_);
      const auto found = index_.find(key);
      if (found != index_.end()) {
        pages_.splice(pages_.begin(), pages_, found->second);
        return static_cast<uint64_t>(found->second->text[0]);
      }
    }
    // Made without the lock; of two threads that make the same page the second throws its own away.
    std::list<Page> fresh(1);
    Page& page = fresh.front();
    page.key = key;
    page.size = kMinPage + key * 2654435761U % (kMaxPage - kMinPage);
    page.text.reset(new char[page.size]);
    render(page);
    const std::lock_guard<std::mutex> guard(lock_);
    if (index_.emplace(key, fresh.begin()).second) pages_.splice(pages_.begin(), fresh);
    return key & 0x7f;
  }

  int64_t evict(int64_t wanted_bytes) {
    const std::lock_guard<std::mutex> guard(lock_);
    int64_t freed = 0;
    while (freed < wanted_bytes && !pages_.empty()) {
      freed += static_cast<int64_t>(pages_.back().size);
      index_.erase(pages_.back().key);
      pages_.pop_back();
    }
    return freed;
  }

 private:
  std::mutex lock_;
  std::list<Page> pages_;
  std::unordered_map<uint64_t, std::list<Page>::iterator> index_;
};

constexpr size_t kShards = 16;
Cache shards[kShards];

int64_t evict(const memlimit_request* request, void*) {
  int64_t freed = 0;
  const int64_t each = request->wanted_bytes / static_cast<int64_t>(kShards) + 1;
  for (Cache& shard : shards) freed += shard.evict(each);
  return freed;
}

int serve(int threads, int64_t requests) {
  const memlimit_hook hook{sizeof hook, "pages", MEMLIMIT_ASYNC, evict, nullptr};
  memlimit_hook_id id;
  if (memlimit_hook_add != nullptr && memlimit_hook_add(&hook, &id) != 0) return 1;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([i, threads, requests] {
      std::mt19937_64 random(static_cast<uint64_t>(i) * 7919 + static_cast<uint64_t>(getpid()));
      uint64_t sum = 0;
      for (int64_t n = 0; n < requests / threads; ++n) {
        // The smaller of two: low keys are asked for more often.
        const uint64_t key = std::min(random() % kKeys, random() % kKeys);
        sum += shards[key % kShards].get(key);
      }
      volatile uint64_t sink = sum;  // The work must not be removed.
      (void)sink;
    });
  }
  for (std::thread& worker : workers) worker.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int processes = atoi(argv[1]), threads = atoi(argv[2]);
  const int64_t requests = atoll(argv[3]);
  int status = 0;
  if (processes > 1) {
    for (int i = 0; i < processes; ++i) {
      if (fork() == 0) _exit(serve(threads, requests));
    }
    for (int i = 0; i < processes; ++i) {
      int one = 0;
      wait(&one);
      status |= one;
    }
  } else {
    status = serve(threads, requests);
  }
  if (status != 0) return 1;
  puts("done");
  return 0;
}
