/* What there is to know about a process under memlimit, as plain data: the figures, the hooks,
 * three histograms. The Snapshot is filled by whoever owns the numbers and read by the renderers.
 *
 * Answers for: one meaning and one order of every statistic (stats.inc). Refuses to collect
 * anything. Threads: Histogram::observe() may be called by any thread, also inside malloc; a
 * Snapshot belongs to the thread that fills it.
 */
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "memlimit.h"

namespace memlimit {

enum class StatKind : uint8_t { kCounter, kGauge, kState };
enum class StatUnit : uint8_t { kBytes, kNs, kCount };

struct StatRow {
  std::string_view key;
  StatKind kind;
  StatUnit unit;
  std::string_view sentence;
  int64_t memlimit_stats::*figure;
};

inline constexpr StatRow kStatRows[] = {
#define MEMLIMIT_STAT(key, kind, unit, sentence) \
  {#key, StatKind::k##kind, StatUnit::k##unit, sentence, &memlimit_stats::key},
#include "observe/stats.inc"
#undef MEMLIMIT_STAT
};
inline constexpr size_t kStatCount = sizeof kStatRows / sizeof kStatRows[0];

namespace stats_detail {
enum StatIndex : size_t {
#define MEMLIMIT_STAT(key, kind, unit, sentence) key,
#include "observe/stats.inc"
#undef MEMLIMIT_STAT
};
#define MEMLIMIT_STAT(key, kind, unit, sentence)                                        \
  static_assert(offsetof(memlimit_stats, key) ==                                        \
                    offsetof(memlimit_stats, limit) + StatIndex::key * sizeof(int64_t), \
                #key ": memlimit.h and stats.inc differ");
#include "observe/stats.inc"
#undef MEMLIMIT_STAT
static_assert(sizeof(memlimit_stats) ==
                  offsetof(memlimit_stats, limit) + kStatCount * sizeof(int64_t),
              "memlimit.h has a field that stats.inc lacks");
}  // namespace stats_detail

/** "low", "moderate", "critical", "over"; "unknown" for anything else. */
std::string_view level_name(int64_t level) noexcept;

/** Contexts that only memlimit's own hooks have; the public ones are enum memlimit_context. */
inline constexpr int kContextSafePoint = 3; /* a language runtime's own safe point */
inline constexpr int kContextBuiltin = 4;   /* the allocator's purge, run by the round itself */

/** "async", "poll", "inline", "safepoint", "builtin"; "unknown" for anything else. */
std::string_view context_name(int context) noexcept;

/** One hook as the `hooks` file shows it. */
struct HookRow {
  char name[32];
  uint64_t id; /* memlimit_hook_id, or a number that no other row of the process ever has */
  int context;
  int64_t calls;
  int64_t skips;
  int64_t freed_bytes;
  int64_t ns;
  int64_t bytes_per_us; /* the measure by which hooks are ranked */
  int64_t backoff;      /* rounds left out before it is asked again; 0 = none */
  int64_t last_result;  /* bytes, or MEMLIMIT_CANNOT_NOW; without meaning while calls == 0 */
  int64_t overruns;     /* calls that went past their deadline */
  int64_t running_ns;   /* how long the call lasts that is under way; 0 = none is */
};

/** Upper bounds of a histogram's buckets, ascending; a last one without bound follows. The labels
 * are the same bounds as OpenMetrics wants them: base units, canonical floating point. */
struct HistogramShape {
  static constexpr size_t kBounds = 10;
  int64_t bound[kBounds];
  const char* label[kBounds];
};

inline constexpr HistogramShape kDurationShape = {
    {16'000, 64'000, 256'000, 1'000'000, 4'000'000, 16'000'000, 64'000'000, 256'000'000,
     1'000'000'000, 4'000'000'000},
    {"1.6e-05", "6.4e-05", "0.000256", "0.001", "0.004", "0.016", "0.064", "0.256", "1.0", "4.0"}};

/* The bucket for 0 counts the rounds that brought nothing. */
inline constexpr HistogramShape kBytesShape = {
    {0, 4096, 65536, int64_t{1} << 18, int64_t{1} << 20, int64_t{1} << 22, int64_t{1} << 24,
     int64_t{1} << 26, int64_t{1} << 28, int64_t{1} << 30},
    {"0.0", "4096.0", "65536.0", "262144.0", "1.048576e+06", "4.194304e+06", "1.6777216e+07",
     "6.7108864e+07", "2.68435456e+08", "1.073741824e+09"}};

/** A histogram at one moment. `count` is the sum of the buckets, so it never contradicts them. */
struct HistogramCopy {
  const HistogramShape* shape;
  int64_t bucket[HistogramShape::kBounds + 1];
  int64_t sum;
  int64_t count() const noexcept {
    int64_t total = 0;
    for (const int64_t in_bucket : bucket) total += in_bucket;
    return total;
  }
};

class Histogram {
 public:
  constexpr explicit Histogram(const HistogramShape& shape) noexcept : shape_(&shape) {}
  Histogram(const Histogram&) = delete;
  Histogram& operator=(const Histogram&) = delete;

  /** Counts a value (nanoseconds or bytes; negative counts as 0). Any thread, inside malloc too:
   * two relaxed additions, no lock, no allocation. */
  void observe(int64_t value) noexcept {
    if (value < 0) value = 0;
    size_t at = 0;
    while (at < HistogramShape::kBounds && value > shape_->bound[at]) ++at;
    bucket_[at].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }

  /** Copies it without stopping the writers: each number is right at some moment of the call. */
  HistogramCopy copy() const noexcept;

  /** In the child of fork: the child's figures are its own. */
  void reset() noexcept;

 private:
  const HistogramShape* shape_;
  std::atomic<int64_t> bucket_[HistogramShape::kBounds + 1]{};
  std::atomic<int64_t> sum_{0};
};

/** Everything the renderers need. Texts are NUL-terminated; an empty one is left out. */
struct Snapshot {
  static constexpr size_t kMaxHooks = 80;

  memlimit_stats figures{};
  char name[64] = {}; /* of the process, as in /proc/self/comm */
  int pid = 0;
  char account[32] = {}; /* MEMLIMIT_ACCOUNT as resolved: "heap", "rss", "cgroup" */
  char limit_source[96] =
      {}; /* where the limit came from: "MEMLIMIT", "socket", "80% of 2 GiB" ... */
  bool limit_invalid = false;   /* MEMLIMIT had a bad value, and nobody has set a limit since */
  bool let_go_for_time = false; /* while limiter_on: reclaim took too much CPU time */
  char left_out[256] = {};      /* runtimes that no round asks, and why */

  HistogramCopy round_ns{&kDurationShape, {}, 0};  /* duration of a round */
  HistogramCopy assist_ns{&kDurationShape, {}, 0}; /* wait of an allocating thread */
  HistogramCopy freed_bytes{&kBytesShape, {}, 0};  /* bytes freed in a round */

  size_t hook_count = 0;
  HookRow hooks[kMaxHooks] = {};
};

}  // namespace memlimit
