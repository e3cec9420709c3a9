/* What the programs that run near a limit share: clocks, a latency histogram, the sampler, and
 * memlimit's figures where it is loaded.
 *
 * Answers for: reading from inside without disturbing what is read: the sampler's memory is mapped
 * before the run, and it sleeps between samples.
 * Threads: a Histogram belongs to one thread; the Sampler runs a thread of its own.
 */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <thread>

#include "memlimit.h"
#include "suite/common.h"

namespace bench {

inline int64_t clock_ns(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * INT64_C(1'000'000'000) + now.tv_nsec;
}

inline int64_t now_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }

/** The CPU time that a hook spends, two readings of the thread's clock a call included: a system call each, half
 *  of which lies outside the pair and would be taken for the engine's. */
class HookClock {
 public:
  HookClock() noexcept {
    constexpr int kReadings = 2000;
    const int64_t begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t end_ns = begin_ns;
    for (int i = 0; i < kReadings; ++i) end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    reading_ns_ = (end_ns - begin_ns) / kReadings;
  }

  static int64_t begin() noexcept { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
  void end(int64_t begin_ns) noexcept {
    spent_ns_ += clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns + reading_ns_;
  }
  int64_t spent_ns() const noexcept { return spent_ns_; }

 private:
  int64_t reading_ns_ = 0;
  std::atomic<int64_t> spent_ns_{0};
};

inline void sleep_until_ns(int64_t at_ns) noexcept {
  const timespec at{at_ns / 1'000'000'000, at_ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) != 0) {
  }
}

/** Ticks for timing single calls: the CPU's counter where there is one, else nanoseconds. */
inline uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return static_cast<uint64_t>(now_ns());
#endif
}

/** Counts durations in ticks; 32 steps an octave, so a quantile is right to 3 %. */
class Histogram {
 public:
  void add(uint64_t value) noexcept {
    ++buckets_[index_of(value)];
    ++count_;
    largest_ = std::max(largest_, value);
  }

  void merge(const Histogram& other) noexcept {
    for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    largest_ = std::max(largest_, other.largest_);
  }

  /** The value that the share `quantile` of all values does not exceed. */
  uint64_t at(double quantile) const noexcept {
    const auto wanted = static_cast<uint64_t>(std::ceil(static_cast<double>(count_) * quantile));
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i];
      if (seen >= wanted) return std::min(upper_end(i), largest_);
    }
    return largest_;
  }

  uint64_t largest() const noexcept { return largest_; }

 private:
  static constexpr size_t kSteps = 32;
  static constexpr size_t kBuckets = 60 * kSteps;

  static size_t index_of(uint64_t value) noexcept {
    if (value < kSteps) return value;
    const auto octave = static_cast<size_t>(63 - __builtin_clzll(value));  // 5 or more
    return (octave - 4) * kSteps + (value >> (octave - 5) & (kSteps - 1));
  }

  static uint64_t upper_end(size_t index) noexcept {
    if (index < kSteps) return index;
    const size_t octave = index / kSteps + 4;
    return ((kSteps + index % kSteps + 1) << (octave - 5)) - 1;
  }

  uint64_t buckets_[kBuckets] = {};
  uint64_t count_ = 0;
  uint64_t largest_ = 0;
};

/** memlimit's figures; all zero where the library is not loaded. */
inline memlimit_stats read_stats() noexcept {
  memlimit_stats stats{};
  if (memlimit_is_loaded()) memlimit_read_stats(&stats, sizeof stats);
  return stats;
}

/** Resident bytes of this process. `statm` is a descriptor of /proc/self/statm. */
inline int64_t resident_bytes(int statm) noexcept {
  char text[128];
  const ssize_t length = pread(statm, text, sizeof text - 1, 0);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char* second = std::strchr(text, ' ');
  return second == nullptr ? 0 : std::strtoll(second, nullptr, 10) * sysconf(_SC_PAGESIZE);
}

/** CPU time of memlimit's service thread (the one named "memlimit"), nanoseconds; 0 without it. */
inline int64_t service_cpu_ns() {
  int64_t total_ns = 0;
  DIR* tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return 0;
  while (const dirent* task = readdir(tasks)) {
    const std::string folder = std::string("/proc/self/task/") + task->d_name;
    char text[128] = {};
    const int comm = open((folder + "/comm").c_str(), O_RDONLY | O_CLOEXEC);
    const bool ours = comm >= 0 && read(comm, text, sizeof text - 1) > 0 &&
                      std::string_view(text) == "memlimit\n";
    if (comm >= 0) close(comm);
    if (!ours) continue;
    const int schedstat = open((folder + "/schedstat").c_str(), O_RDONLY | O_CLOEXEC);
    std::memset(text, 0, sizeof text);
    if (schedstat >= 0 && read(schedstat, text, sizeof text - 1) > 0) {
      total_ns += std::strtoll(text, nullptr, 10);
    }
    if (schedstat >= 0) close(schedstat);
  }
  closedir(tasks);
  return total_ns;
}

inline int64_t peak_resident_bytes() noexcept {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

inline int64_t usage_of(const memlimit_stats& stats) noexcept {
  return stats.heap_alloc + stats.charged;
}

/** Samples usage and RSS every 5 ms on a thread of its own, until stopped. */
class Sampler {
 public:
  static constexpr int64_t kPeriodNs = 5'000'000;

  struct Sample {
    int64_t at_ns;
    int64_t usage_bytes;
    int64_t resident_bytes;
    int64_t rounds;
    int64_t level;
    int64_t limiter_on;
  };

  explicit Sampler(double seconds)
      : capacity_(static_cast<size_t>(seconds * 1e9 / kPeriodNs * 1.5) + 1000),
        statm_(open("/proc/self/statm", O_RDONLY | O_CLOEXEC)) {
    void* memory = mmap(nullptr, capacity_ * sizeof(Sample), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    samples_ = static_cast<Sample*>(memory);
    begin_ns_ = now_ns();
    thread_ = std::thread([this] { run(); });
  }

  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  ~Sampler() {
    stop();
    munmap(samples_, capacity_ * sizeof(Sample));
    close(statm_);
  }

  void stop() {
    stopping_.store(true);
    if (thread_.joinable()) thread_.join();
  }

  /** After stop(). */
  const Sample* begin() const noexcept { return samples_; }
  const Sample* end() const noexcept { return samples_ + count_; }

  /** Writes all samples; false when the file cannot be written. After stop(). */
  bool write_csv(const char* path) const {
    FILE* file = std::fopen(path, "we");
    if (file == nullptr) return false;
    std::fputs("ms,usage,rss,rounds,level,limiter_on\n", file);
    for (const Sample& s : *this) {
      std::fprintf(file, "%.3f,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n",
                   static_cast<double>(s.at_ns - begin_ns_) / 1e6, s.usage_bytes, s.resident_bytes,
                   s.rounds, s.level, s.limiter_on);
    }
    return std::fclose(file) == 0;
  }

 private:
  void run() {
    for (int64_t due_ns = begin_ns_; !stopping_.load() && count_ < capacity_;) {
      const memlimit_stats stats = read_stats();
      samples_[count_++] = {now_ns(),     usage_of(stats), bench::resident_bytes(statm_),
                            stats.rounds, stats.level,     stats.limiter_on};
      // A late sample is not made up for: two in a row would say the same thing.
      due_ns = std::max(due_ns + kPeriodNs, now_ns());
      sleep_until_ns(due_ns);
    }
  }

  size_t capacity_;
  size_t count_ = 0;
  Sample* samples_ = nullptr;
  int statm_;
  int64_t begin_ns_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

/** Registers an async hook, or ends the program. Does nothing without the library. */
inline void add_async_hook(const char* name, int64_t (*reclaim)(const memlimit_request*, void*),
                           void* arg) {
  if (!memlimit_is_loaded()) return;
  memlimit_hook hook{};
  hook.size = sizeof hook;
  hook.name = name;
  hook.context = MEMLIMIT_ASYNC;
  hook.reclaim = reclaim;
  hook.arg = arg;
  memlimit_hook_id id = 0;
  const int error = memlimit_hook_add(&hook, &id);
  if (error != 0) {
    std::fprintf(stderr, "memlimit_hook_add: %s\n", std::strerror(-error));
    std::exit(1);
  }
}

/** Prints "name=value". */
inline void print(const char* name, int64_t value) { std::printf("%s=%" PRId64 "\n", name, value); }
inline void print(const char* name, double value) { std::printf("%s=%.6f\n", name, value); }

/** The figures that every program near a limit ends with. `hook_cpu_ns` is the hook's own work. */
inline void print_stats(int64_t hook_cpu_ns) {
  const memlimit_stats stats = read_stats();
  print("limit", stats.limit);
  print("heap_peak", stats.heap_peak);
  print("peak_rss", peak_resident_bytes());
  print("rounds", stats.rounds);
  print("hook_calls", stats.hook_calls);
  print("reclaimed", stats.reclaimed);
  print("hook_cpu_ns", hook_cpu_ns);
  print("reclaim_cpu_ns", stats.reclaim_cpu_ns);
  print("service_cpu_ns", service_cpu_ns());
  print("process_cpu_ns", clock_ns(CLOCK_PROCESS_CPUTIME_ID));
  print("assists", stats.assists);
  print("assist_ns", stats.assist_ns);
  print("assist_max_ns", stats.assist_max_ns);
  print("purges", stats.purges);
  print("purge_ns", stats.purge_ns);
  print("madvise_calls", stats.madvise_calls);
  print("overshoot_peak", stats.overshoot_peak);
  print("limiter_on", stats.limiter_on);
  print("limiter_episodes", stats.limiter_episodes);
  print("limiter_skipped", stats.limiter_skipped);
  print("limiter_needed", stats.limiter_needed);
}

}  // namespace bench
