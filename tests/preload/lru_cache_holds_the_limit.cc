/* An LRU cache behind a mutex, filled by two threads for ever, with no size of its own: an ASYNC hook, which may take the
 * mutex, evicts what is asked for, and usage stays under the limit. An example of memlimit.hpp. */
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>

#include "check.h"
#include "memlimit.hpp"

namespace {

constexpr std::int64_t kLimitBytes = std::int64_t{32} << 20;

class LruCache {
 public:
  void put(std::uint64_t key, std::string value) {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto known = index_.find(key);
    if (known != index_.end()) {
      known->second->second = std::move(value);
      entries_.splice(entries_.begin(), entries_, known->second);
      return;
    }
    entries_.emplace_front(key, std::move(value));
    index_.emplace(key, entries_.begin());
  }

  /** A copy, "" when it is not there (any more). */
  std::string get(std::uint64_t key) {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto known = index_.find(key);
    if (known == index_.end()) return {};
    entries_.splice(entries_.begin(), entries_, known->second);
    return known->second->second;
  }

  /** How often the hook was called, and the bytes it said it freed. */
  std::pair<int, std::int64_t> evictions() {
    const std::lock_guard<std::mutex> guard(lock_);
    return {calls_, evicted_bytes_};
  }

 private:
  using Entry = std::pair<std::uint64_t, std::string>;

  std::int64_t evict(const memlimit::request& request) {
    const std::lock_guard<std::mutex> guard(lock_);
    std::int64_t freed = 0;
    while (!entries_.empty() && freed < request.wanted_bytes) {
      freed += static_cast<std::int64_t>(sizeof(Entry) + entries_.back().second.capacity());
      index_.erase(entries_.back().first);
      entries_.pop_back();
    }
    ++calls_;
    evicted_bytes_ += freed;
    return freed;
  }

  std::mutex lock_;
  std::list<Entry> entries_; /* the one used last is first */
  std::unordered_map<std::uint64_t, std::list<Entry>::iterator> index_;
  int calls_ = 0;
  std::int64_t evicted_bytes_ = 0;
  /* The last member: it comes when the others are there, and goes, waiting for a call under way, before they do. */
  memlimit::hook hook_{"lru", [this](const memlimit::request& request) { return evict(request); }};
};

struct Looks {
  int all = 0, over = 0;
};

/* 320 MB of values of 256 to 2303 bytes, all keys different. */
Looks fill(LruCache* cache, std::uint64_t thread) {
  Looks looks;
  std::uint64_t random = thread + 1;
  for (std::uint64_t i = 0; i < 250000; ++i) {
    const std::uint64_t key = i << 1 | thread;
    const size_t bytes = 256 + next_random(&random) % 2048;
    cache->put(key, std::string(bytes, static_cast<char>('a' + key % 26)));
    if (i % 64 == 0) {
      const std::string value = cache->get(key);
      CHECK(value.empty() || value == std::string(bytes, static_cast<char>('a' + key % 26)));
    }
    if (i % 512 == 0) {
      ++looks.all;
      if (memlimit::stats().heap_alloc > kLimitBytes) ++looks.over;
    }
  }
  return looks;
}

}  // namespace

int main() {
  need_library();
  CHECK_EQ(memlimit::limit(), kLimitBytes);
  {
    LruCache cache;
    Looks first, second;
    std::thread other([&] { second = fill(&cache, 1); });
    first = fill(&cache, 0);
    other.join();
    /* Not at every look: on a busy machine the service thread may have to wait for a processor, while an allocating
     * thread waits for it a bounded time only. */
    CHECK((first.over + second.over) * 2 <= first.all + second.all);
    const auto [calls, evicted_bytes] = cache.evictions();
    CHECK(calls >= 20);
    CHECK(evicted_bytes >= std::int64_t{300} << 20);
    CHECK_EQ(memlimit::stats().hooks, 1);
    while (memlimit::stats().heap_alloc > kLimitBytes) CHECK(memlimit::reclaim(1 << 20) > 0);
  }
  CHECK_EQ(memlimit::stats().hooks, 0);
  CHECK(memlimit::stats().heap_alloc <= std::int64_t{1} << 20);
  return 0;
}
