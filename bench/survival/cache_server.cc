// Answers requests from a cache that it never bounds by itself: what bounds it is a reclaim hook.
//
// usage: cache_server PROCESSES THREADS REQUESTS zipf|scattered [MIB]
//
// MIB bounds the pages of each process by hand, and no hook is added.
//
// With more than one process it preforks: each worker has a cache of its own, and they share the group. Over far
// more keys than fit, requests follow Zipf's law, as those of most caches do, or are scattered, so that a smaller
// cache misses far more often. A miss computes the page. Ends with "done". memlimit is linked weakly: without it
// the same program runs, and its cache grows.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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
  std::shared_ptr<char[]> text;
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
}

// Zipf's law with the exponent 0.99, as in YCSB, by the method of J. Gray et al., "Quickly generating billion-record
// synthetic databases", SIGMOD 1994: key 0 is the most popular.
class Zipf {
 public:
  explicit Zipf(uint64_t keys) : keys_(static_cast<double>(keys)) {
    for (uint64_t i = 1; i <= keys; ++i) zeta_ += 1.0 / std::pow(static_cast<double>(i), kTheta);
    const double zeta2 = 1.0 + std::pow(0.5, kTheta);
    eta_ = (1.0 - std::pow(2.0 / keys_, 1.0 - kTheta)) / (1.0 - zeta2 / zeta_);
  }

  uint64_t key(double uniform) const {
    const double scaled = uniform * zeta_;
    if (scaled < 1.0) return 0;
    if (scaled < 1.0 + std::pow(0.5, kTheta)) return 1;
    return static_cast<uint64_t>(keys_ *
                                 std::pow(eta_ * uniform - eta_ + 1.0, 1.0 / (1.0 - kTheta)));
  }

 private:
  static constexpr double kTheta = 0.99;
  double keys_, zeta_ = 0.0, eta_ = 0.0;
};

// What goes out with the page: its ETag, FNV-1a.
uint64_t answer(const Page& page) {
  uint64_t hash = 14695981039346656037U;
  for (size_t i = 0; i < page.size; ++i) {
    hash = (hash ^ static_cast<unsigned char>(page.text[i])) * 1099511628211U;
  }
  return hash;
}

class Cache {
 public:
  Page get(uint64_t key) {
    {
      const std::lock_guard<std::mutex> guard(lock_);
      const auto found = index_.find(key);
      if (found != index_.end()) {
        pages_.splice(pages_.begin(), pages_, found->second);
        return *found->second;
      }
    }
    // Made without the lock; of two threads that make the same page the second throws its own away.
    std::list<Page> fresh(1);
    Page& page = fresh.front();
    page.key = key;
    page.size = kMinPage + key * 2654435761U % (kMaxPage - kMinPage);
    page.text.reset(new char[page.size]);
    render(page);
    const Page made = page;
    const std::lock_guard<std::mutex> guard(lock_);
    if (index_.emplace(key, fresh.begin()).second) {
      bytes_ += static_cast<int64_t>(page.size);
      pages_.splice(pages_.begin(), fresh);
      if (bytes_ > most_bytes) evict_locked(bytes_ - most_bytes);
    }
    return made;
  }

  int64_t evict(int64_t wanted_bytes) {
    const std::lock_guard<std::mutex> guard(lock_);
    return evict_locked(wanted_bytes);
  }

  static inline int64_t most_bytes = INT64_MAX;

 private:
  int64_t evict_locked(int64_t wanted_bytes) {
    int64_t freed = 0;
    while (freed < wanted_bytes && !pages_.empty()) {
      freed += static_cast<int64_t>(pages_.back().size);
      index_.erase(pages_.back().key);
      pages_.pop_back();
    }
    bytes_ -= freed;
    return freed;
  }

  std::mutex lock_;
  std::list<Page> pages_;
  std::unordered_map<uint64_t, std::list<Page>::iterator> index_;
  int64_t bytes_ = 0;
};

constexpr size_t kShards = 16;
Cache shards[kShards];

int64_t evict(const memlimit_request* request, void*) {
  int64_t freed = 0;
  const int64_t each = request->wanted_bytes / static_cast<int64_t>(kShards) + 1;
  for (Cache& shard : shards) freed += shard.evict(each);
  return freed;
}

int serve(int threads, int64_t requests, bool scattered) {
  const memlimit_hook hook{sizeof hook, "pages", MEMLIMIT_ASYNC, evict, nullptr};
  memlimit_hook_id id;
  const bool bounded = Cache::most_bytes < INT64_MAX;
  if (!bounded && memlimit_hook_add != nullptr && memlimit_hook_add(&hook, &id) != 0) return 1;
  const Zipf zipf(kKeys);
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([i, threads, requests, scattered, &zipf] {
      std::mt19937_64 random(static_cast<uint64_t>(i) * 7919 + static_cast<uint64_t>(getpid()));
      std::uniform_real_distribution<double> uniform(0.0, 1.0);
      uint64_t sum = 0;
      for (int64_t n = 0; n < requests / threads; ++n) {
        // Scattered: the smaller of two, so that low keys are asked for somewhat more often.
        const uint64_t key = scattered ? std::min(random() % kKeys, random() % kKeys)
                                       : std::min(zipf.key(uniform(random)), kKeys - 1);
        sum += answer(shards[key % kShards].get(key));
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
  if (argc != 5 && argc != 6) return 2;
  if (argc == 6) Cache::most_bytes = (atoll(argv[5]) << 20) / static_cast<int64_t>(kShards);
  const int processes = atoi(argv[1]), threads = atoi(argv[2]);
  const int64_t requests = atoll(argv[3]);
  const bool scattered = strcmp(argv[4], "scattered") == 0;
  int status = 0;
  if (processes > 1) {
    for (int i = 0; i < processes; ++i) {
      if (fork() == 0) _exit(serve(threads, requests, scattered));
    }
    for (int i = 0; i < processes; ++i) {
      int one = 0;
      wait(&one);
      status |= one;
    }
  } else {
    status = serve(threads, requests, scattered);
  }
  if (status != 0) return 1;
  puts("done");
  return 0;
}
