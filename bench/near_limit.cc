/* An LRU cache of 256-2303-byte values behind a mutex, filled for ever by several threads: the
 * program that memlimit is for. Its async hook evicts the oldest entries; without a limit, --hold
 * caps the number of entries by hand instead, which is what a perfect operator would do. With --evictor
 * a thread of its own keeps to that number, as an async hook does: what eviction on another thread costs
 * in itself.
 *
 * Prints name=value lines: how long usage stayed between 90 and 100 % of the limit, peaks,
 * throughput, the latency of malloc as the filling threads see it, and what the engine cost. With
 * --oversized a thread asks for twice the limit in the middle of it, three times.
 *
 * Usage: near_limit [--threads N] [--seconds S] [--hold BYTES [--evictor]] [--oversized] [--csv FILE]
 */
#include <getopt.h>
#include <malloc.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "limit_common.h"

namespace {

constexpr size_t kBuckets = size_t{1} << 18;
constexpr size_t kLowestBytes = 256;
constexpr size_t kHighestBytes = 2303;
// What the evictor takes at once: about as much as a round asks for at 256 MiB.
constexpr int64_t kEvictorBytes = int64_t{3} << 20;

struct Entry {
  uint64_t key;
  Entry* chain;
  Entry* newer;
  Entry* older;
  char* value;
  size_t bytes;  // of the entry and its value, as malloc counts them
};

class Cache {
 public:
  Cache() : buckets_(kBuckets) {}
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  ~Cache() { evict(INT64_MAX); }

  /** Caps the number of entries; 0 = no cap. Before the first insertion. */
  void set_capacity(size_t entries) { capacity_ = entries; }

  /** Leaves it to run_evictor() on another thread to keep to the capacity. Before the first insertion. */
  void expect_evictor() { evictor_ = true; }

  /** Evicts kEvictorBytes whenever there are too many entries, until stop_evictor(). */
  void run_evictor() {
    for (;;) {
      {
        std::unique_lock guard(mutex_);
        crowded_.wait(guard, [this] { return stopping_ || count_ > capacity_; });
        if (stopping_) return;
      }
      evict(kEvictorBytes);
    }
  }

  void stop_evictor() {
    {
      const std::lock_guard guard(mutex_);
      stopping_ = true;
    }
    crowded_.notify_one();
  }

  /** Takes the entry over. Frees what it replaces, and the oldest entry when the cache is full. */
  void insert(Entry* entry) {
    Entry* replaced = nullptr;
    Entry* oldest = nullptr;
    bool crowded = false;
    {
      const std::lock_guard guard(mutex_);
      Entry** link = &buckets_[entry->key % kBuckets];
      while (*link != nullptr && (*link)->key != entry->key) link = &(*link)->chain;
      if (*link != nullptr) {
        replaced = *link;
        unlink(replaced);
      }
      Entry*& bucket = buckets_[entry->key % kBuckets];
      entry->chain = bucket;
      bucket = entry;
      entry->older = newest_;
      entry->newer = nullptr;
      (newest_ != nullptr ? newest_->newer : oldest_) = entry;
      newest_ = entry;
      ++count_;
      crowded = capacity_ != 0 && count_ > capacity_;
      if (crowded && !evictor_) {
        oldest = oldest_;
        unlink(oldest);
      }
    }
    if (crowded && evictor_) crowded_.notify_one();
    release(replaced);
    release(oldest);
  }

  /** Frees oldest entries until `bytes` are free or none is left; returns the bytes freed. */
  int64_t evict(int64_t bytes) {
    // A batch at a time: the filling threads get the mutex in between, and free runs outside it. Not a small one, for the
    // mutex is had again only after a wait: with 64 usage of four threads was in the band for 98.5 % of the time at
    // worst, with 256, some 40 microseconds, for 99.5 %.
    constexpr size_t kBatch = 256;
    int64_t freed = 0;
    while (freed < bytes) {
      Entry* batch[kBatch];
      size_t taken = 0;
      {
        const std::lock_guard guard(mutex_);
        for (; taken < kBatch && freed < bytes && oldest_ != nullptr; ++taken) {
          batch[taken] = oldest_;
          freed += static_cast<int64_t>(oldest_->bytes);
          unlink(oldest_);
        }
      }
      for (size_t i = 0; i < taken; ++i) release(batch[i]);
      if (taken == 0) break;
    }
    return freed;
  }

  size_t count() {
    const std::lock_guard guard(mutex_);
    return count_;
  }

 private:
  void unlink(Entry* entry) {
    Entry** link = &buckets_[entry->key % kBuckets];
    while (*link != entry) link = &(*link)->chain;
    *link = entry->chain;
    (entry->newer != nullptr ? entry->newer->older : newest_) = entry->older;
    (entry->older != nullptr ? entry->older->newer : oldest_) = entry->newer;
    --count_;
  }

  static void release(Entry* entry) {
    if (entry == nullptr) return;
    std::free(entry->value);
    std::free(entry);
  }

  std::mutex mutex_;
  std::vector<Entry*> buckets_;
  Entry* newest_ = nullptr;
  Entry* oldest_ = nullptr;
  size_t count_ = 0;
  size_t capacity_ = 0;
  bool evictor_ = false;
  bool stopping_ = false;
  std::condition_variable crowded_;
};

struct Options {
  unsigned threads = 1;
  double seconds = 10;
  int64_t hold_bytes = 0;
  bool evictor = false;
  bool oversized = false;
  const char* csv = nullptr;
};

Options parse(int argc, char** argv) {
  static const option kLong[] = {{"threads", required_argument, nullptr, 't'},
                                 {"seconds", required_argument, nullptr, 's'},
                                 {"hold", required_argument, nullptr, 'h'},
                                 {"oversized", no_argument, nullptr, 'o'},
                                 {"csv", required_argument, nullptr, 'c'},
                                 {"evictor", no_argument, nullptr, 'e'},
                                 {nullptr, 0, nullptr, 0}};
  Options options;
  int found = 0;
  while ((found = getopt_long(argc, argv, "", kLong, nullptr)) != -1) {
    if (found == 't') options.threads = static_cast<unsigned>(std::strtoul(optarg, nullptr, 10));
    if (found == 's') options.seconds = std::strtod(optarg, nullptr);
    if (found == 'h') options.hold_bytes = std::strtoll(optarg, nullptr, 10);
    if (found == 'e') options.evictor = true;
    if (found == 'o') options.oversized = true;
    if (found == 'c') options.csv = optarg;
    if (found == '?') std::exit(2);
  }
  return options;
}

/** A new entry with a written value; the allocation of the value is timed. */
Entry* make_entry(bench::Rng& rng, bench::Histogram* latency) {
  const size_t size = rng.between(kLowestBytes, kHighestBytes);
  const uint64_t begin = bench::ticks();
  char* value = bench::must_malloc(size);
  if (latency != nullptr) latency->add(bench::ticks() - begin);
  std::memset(value, 1, size);
  auto* entry = reinterpret_cast<Entry*>(bench::must_malloc(sizeof(Entry)));
  entry->key = rng.next();
  entry->value = value;
  entry->bytes = malloc_usable_size(value) + malloc_usable_size(entry);
  return entry;
}

/** How many entries take `bytes`, from the mean of some thousands. */
size_t entries_for(int64_t bytes) {
  constexpr size_t kProbes = 8192;
  bench::Rng rng(12345);
  size_t total = 0;
  for (size_t i = 0; i < kProbes; ++i) {
    Entry* entry = make_entry(rng, nullptr);
    total += entry->bytes;
    std::free(entry->value);
    std::free(entry);
  }
  return static_cast<size_t>(bytes) * kProbes / total;
}

struct Hook {
  Cache* cache;
  bench::HookClock clock;
};

int64_t evict_hook(const memlimit_request* request, void* arg) {
  auto* hook = static_cast<Hook*>(arg);
  const int64_t begin_ns = hook->clock.begin();
  const int64_t freed = hook->cache->evict(request->wanted_bytes);
  hook->clock.end(begin_ns);
  return freed;
}

struct alignas(64) Filler {
  uint64_t inserted = 0;
  bench::Histogram latency;
};

void fill(Cache& cache, Filler& filler, uint64_t seed, const std::atomic<bool>& stopping) {
  bench::Rng rng(seed);
  while (!stopping.load(std::memory_order_relaxed)) {
    cache.insert(make_entry(rng, &filler.latency));
    ++filler.inserted;
  }
}

/** Twice the limit, three times, in the middle of everything. */
void ask_for_too_much(double seconds) {
  const int64_t limit = memlimit_get();
  const int64_t step_ns = static_cast<int64_t>(seconds * 1e9 / 4);
  int64_t worst_grant_ns = 0;
  int64_t worst_back_ns = 0;
  int64_t begin_ns = bench::now_ns();
  for (int i = 0; i < 3; ++i) {
    begin_ns += step_ns;
    bench::sleep_until_ns(begin_ns);
    const int64_t asked_ns = bench::now_ns();
    char* block = bench::must_malloc(static_cast<size_t>(limit) * 2);
    worst_grant_ns = std::max(worst_grant_ns, bench::now_ns() - asked_ns);
    *block = 1;
    bench::sleep_until_ns(bench::now_ns() + 100'000'000);
    std::free(block);
    const int64_t freed_ns = bench::now_ns();
    while (bench::usage_of(bench::read_stats()) >= limit &&
           bench::now_ns() - freed_ns < 10'000'000'000) {
      bench::sleep_until_ns(bench::now_ns() + 1'000'000);
    }
    worst_back_ns = std::max(worst_back_ns, bench::now_ns() - freed_ns);
  }
  bench::print("oversized_grant_ns", worst_grant_ns);
  bench::print("oversized_back_ns", worst_back_ns);
}

/** Shares of time by usage, from the first sample at 90 % of the limit on. */
void print_band(const bench::Sampler& sampler, int64_t limit) {
  double inside_ns = 0;
  double above_ns = 0;
  double total_ns = 0;
  int64_t peak = 0;
  const auto low = static_cast<int64_t>(static_cast<double>(limit) * 0.9);
  const auto* first = std::find_if(sampler.begin(), sampler.end(),
                                   [low](const auto& s) { return s.usage_bytes >= low; });
  for (const auto* s = first; s < sampler.end() - 1; ++s) {
    const auto span_ns = static_cast<double>(s[1].at_ns - s->at_ns);
    total_ns += span_ns;
    if (s->usage_bytes > limit) above_ns += span_ns;
    if (s->usage_bytes >= low && s->usage_bytes <= limit) inside_ns += span_ns;
    peak = std::max(peak, s->usage_bytes);
  }
  bench::print("sampled_peak", peak);
  bench::print("band_share", total_ns > 0 ? inside_ns / total_ns : 0.0);
  bench::print("over_share", total_ns > 0 ? above_ns / total_ns : 0.0);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Cache cache;
  if (options.hold_bytes > 0) cache.set_capacity(entries_for(options.hold_bytes));
  std::thread evictor;
  if (options.evictor) {
    cache.expect_evictor();
    evictor = std::thread([&cache] { cache.run_evictor(); });
  }
  Hook hook{&cache, {}};
  if (options.hold_bytes == 0) bench::add_async_hook("lru", evict_hook, &hook);

  const int64_t limit = memlimit_is_loaded() ? memlimit_get() : 0;
  if (options.hold_bytes == 0 && limit == 0) {
    std::fprintf(stderr, "near_limit: without MEMLIMIT, say --hold BYTES\n");
    return 2;
  }
  bench::Sampler sampler(options.seconds);
  std::vector<std::unique_ptr<Filler>> fillers;
  std::vector<std::thread> threads;
  std::atomic<bool> stopping{false};
  const int64_t begin_ns = bench::now_ns();
  const uint64_t begin_ticks = bench::ticks();
  for (unsigned t = 0; t < options.threads; ++t) {
    Filler& filler = *fillers.emplace_back(std::make_unique<Filler>());
    threads.emplace_back([&, t] { fill(cache, filler, t + 1, stopping); });
  }
  if (options.oversized && limit > 0) ask_for_too_much(options.seconds);
  bench::sleep_until_ns(begin_ns + static_cast<int64_t>(options.seconds * 1e9));
  stopping.store(true);
  for (std::thread& thread : threads) thread.join();
  if (options.evictor) {
    cache.stop_evictor();
    evictor.join();
  }
  const int64_t elapsed_ns = bench::now_ns() - begin_ns;
  const double ns_per_tick =
      static_cast<double>(elapsed_ns) / static_cast<double>(bench::ticks() - begin_ticks);
  sampler.stop();

  bench::Histogram latency;
  uint64_t inserted = 0;
  for (const auto& filler : fillers) {
    latency.merge(filler->latency);
    inserted += filler->inserted;
  }
  const auto to_ns = [&](uint64_t t) { return static_cast<double>(t) * ns_per_tick; };
  bench::print("inserts_per_s",
               static_cast<double>(inserted) * 1e9 / static_cast<double>(elapsed_ns));
  bench::print("malloc_p50_ns", to_ns(latency.at(0.5)));
  bench::print("malloc_p99_ns", to_ns(latency.at(0.99)));
  bench::print("malloc_p999_ns", to_ns(latency.at(0.999)));
  bench::print("malloc_p9999_ns", to_ns(latency.at(0.9999)));
  bench::print("malloc_max_ns", to_ns(latency.largest()));
  bench::print("entries", static_cast<int64_t>(cache.count()));
  print_band(sampler, limit > 0 ? limit : options.hold_bytes);
  bench::print_stats(hook.clock.spent_ns());
  if (options.csv != nullptr && !sampler.write_csv(options.csv)) {
    std::perror(options.csv);
    return 1;
  }
  return 0;
}
