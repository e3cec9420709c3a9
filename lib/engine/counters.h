/* What rounds have come to since the process began: counts, CPU time, histograms.
 *
 * Answers for: figures that several of the engine's parts add to. Refuses to collect what has an owner (purge, assist).
 * Threads: all, any context; each figure is right by itself, and no two are read at one moment.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fork.h"
#include "memlimit.h"
#include "observe/stats.h"

namespace memlimit::counters {

/** Begins a round: returns its number. */
int64_t next_round() noexcept;

/** The number of the last one. */
int64_t rounds() noexcept;

/** Hooks or runtimes have freed so much. */
void add_reclaimed(int64_t bytes) noexcept;

/** A request larger than the headroom was granted. */
void add_oversized() noexcept;

/** The limit was exceeded by so much; negative: it was not. */
void note_overshoot(int64_t bytes) noexcept;

/** A round is over: how long it took, and what it freed. */
void observe_round(int64_t duration_ns, int64_t freed_bytes) noexcept;

void add_reclaim_cpu(int64_t cpu_ns) noexcept;

/** CPU time that reclaim has taken, the allocator's purges included; nanoseconds. */
int64_t reclaim_cpu_ns() noexcept;

/* What this thread takes from here on is reclaim's, until stop(). One pair of readings (a system call
 * each) for all hooks of a pass. */
class ReclaimCpu {
 public:
  ReclaimCpu() noexcept : began_ns_(os::thread_cpu_ns()) {}
  void stop() const noexcept { add_reclaim_cpu(os::thread_cpu_ns() - began_ns_); }

 private:
  int64_t began_ns_;
};

/** Fills in the figures and histograms that are counted here. */
void fill(memlimit_stats* figures) noexcept;
void fill_histograms(Snapshot* snapshot) noexcept;

/** The child's figures are its own; it counts how many forks lie between it and the first process. */
extern const fork::Part kForkPart;

}  // namespace memlimit::counters
