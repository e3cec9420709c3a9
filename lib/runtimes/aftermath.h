/* What of a collector's work counts as reclaim when it goes on by itself after it was asked. Pure.
 *
 * A heap that a collection made small is collected by itself more often for a while, beside the program and unseen by who
 * measures the collection. Uncharged, the limiter would let a program pay several times what it may: the figures here are
 * those of bench/runtime_tax.py.
 */
#pragma once

#include <algorithm>
#include <cstdint>

namespace memlimit::runtimes::aftermath {

/* What a collector's own threads have used, up to a time. Threads come and go with the work that there is. */
struct CollectorTime {
  int64_t at_ns = 0; /* of a monotonic clock; 0: never */
  int64_t cpu_ns = 0;

  int64_t cpu_since_ns(const CollectorTime& earlier) const noexcept {
    return std::max<int64_t>(cpu_ns - earlier.cpu_ns, 0);
  }
};

/* HotSpot. G1's heap is small after a full collection: it collects its young generation more often, and marks all of it beside
 * the program at once; in bench/tax 34 times after 36 collections that were asked for, else twice in all. Shenandoah and ZGC
 * begin one cycle after the other as long as what is alive is near their soft maximum. What their threads use until the next
 * collection that is asked for counts, of a longer time such a share. */
inline constexpr int64_t kLongestNs = 2'000'000'000;

/** CPU time to charge for what the collector's threads did from `last` to `now`. */
inline int64_t charge_ns(const CollectorTime& last, const CollectorTime& now) noexcept {
  if (last.at_ns == 0) return 0;
  const int64_t cpu_ns = now.cpu_since_ns(last);
  const int64_t elapsed_ns = now.at_ns - last.at_ns;
  if (elapsed_ns <= kLongestNs) return cpu_ns;
  return static_cast<int64_t>(static_cast<double>(cpu_ns) * kLongestNs /
                              static_cast<double>(elapsed_ns));
}

/** Whether the collector was at it for more than half of a core since `last`: then it needs nobody who asks. */
inline bool is_at_it(const CollectorTime& last, const CollectorTime& now) noexcept {
  return last.at_ns != 0 && now.cpu_since_ns(last) > (now.at_ns - last.at_ns) / 2;
}

/* Beside a collection the program's threads take barriers: measured, bench/tax under Shenandoah, of what they used meanwhile a
 * third was what they would not have used without. */
inline constexpr int64_t kSlowdownDivisor = 3;

/** CPU time to charge for a collection beside the program, of what the process and of it the collector used meanwhile. */
inline int64_t concurrent_ns(int64_t process_ns, int64_t collector_ns) noexcept {
  return collector_ns + std::max<int64_t>(process_ns - collector_ns, 0) / kSlowdownDivisor;
}

/* V8. After an urgent collection it begins another one in the background where the first took long and left much unused: the
 * numbers of Heap::CollectGarbageOnMemoryPressure(), the same from V8 5.4 on. */
inline constexpr int64_t kLongCollectionNs = 50'000'000;
inline constexpr int64_t kMuchUnusedBytes = int64_t{8} << 20;
inline constexpr int64_t kMuchUnusedDivisor = 10;

inline bool collects_again(int64_t committed_bytes, int64_t unused_bytes,
                           int64_t elapsed_ns) noexcept {
  return elapsed_ns >= kLongCollectionNs &&
         unused_bytes >= std::max(kMuchUnusedBytes, committed_bytes / kMuchUnusedDivisor);
}

/* And its heap having been made small, it collects by itself more often for a while: in bench/tax/table.js 40 urgent collections
 * brought 12 whole ones and 176 of the young generation. Charged as this share of the collection that they follow. */
inline constexpr int64_t kPercentAfterUrgent = 40;

/** CPU time to charge for what follows an urgent collection that took `cpu_ns` on all threads. */
inline int64_t after_urgent_ns(int64_t cpu_ns, bool again) noexcept {
  return cpu_ns * kPercentAfterUrgent / 100 + (again ? cpu_ns : 0);
}

}  // namespace memlimit::runtimes::aftermath
