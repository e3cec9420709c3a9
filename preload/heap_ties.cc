/* See heap_ties.h. */
#include "heap_ties.h"

#include <algorithm>
#include <cerrno>
#include <ctime>

#include <pthread.h>
#include <sys/resource.h>

#include "backing.h"
#include "engine/account.h"
#include "engine/look.h"
#include "heap/figures.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/region.h"
#include "mappings.h"
#include "profile/profiler.h"
#include "system/os.h"

namespace memlimit {
namespace {

// --- what the heap tells ---

void publish(const heap::News& news) noexcept {
  account::publish(news.taken_bytes, news.returned_bytes, news.stacked_bytes);
}

void look_up(uint64_t allocated_bytes) noexcept {
  os::ErrnoGuard guard;
  if (allocated_bytes > 0) {
    look::after_allocation(static_cast<int64_t>(allocated_bytes));
  } else {
    look::after_free();
  }
}

/* A pointer that is nobody's would have ended in an unmapped segment header of mimalloc's, or in damage. */
void foreign_free(void* block) noexcept {
  os::ErrnoGuard guard;
  if (!backing::release_if_own(block)) heap::report_misuse(heap::Misuse::kInvalidPointer, block, 0);
}

void set_errno() noexcept { errno = ENOMEM; }

/* Made by the constructor. glibc keeps the first 32 keys inside the thread, and allocates for the others: libraries whose
 * constructors ran before ours may have taken those. */
constinit pthread_key_t exit_key = 0;
constinit bool exit_key_made = false;

bool arm_thread_exit() noexcept {
  os::ErrnoGuard guard;
  return exit_key_made && pthread_setspecific(exit_key, &exit_key) == 0;
}

int64_t coarse_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// --- what the engine asks ---

AllocatorTotals totals() noexcept {
  const heap::HeapFigures sum = heap::figures::totals();
  const auto allocated = static_cast<int64_t>(sum.allocated_bytes);
  // While threads work the sums need not fit together.
  return {allocated, std::clamp<int64_t>(sum.live_bytes(), 0, allocated),
          static_cast<int64_t>(sum.taken_bytes), static_cast<int64_t>(sum.returned_bytes)};
}

AllocatorHeld held() noexcept {
  const heap::HeapFigures sum = heap::figures::totals();
  const heap::IdleFigures idle = heap::figures::idle(sum);
  return {.cached = static_cast<int64_t>(sum.cached_bytes),
          .free = idle.free_bytes,
          .large = static_cast<int64_t>(sum.large_bytes),
          .huge = static_cast<int64_t>(sum.huge_bytes),
          .kept = static_cast<int64_t>(idle.huge.kept_bytes),
          .lost = static_cast<int64_t>(sum.lost_bytes),
          .spans = idle.spans,
          .regions = static_cast<int64_t>(sum.region_bytes),
          .records = static_cast<int64_t>(sum.record_bytes)};
}

/* The columns that a kind of row has no figure for are left empty. While threads work a difference may be negative. */
HeapClassRow class_row(HeapClassRow::Kind kind, const heap::ClassFigures& sum) noexcept {
  constexpr int64_t kNone = HeapClassRow::kNone;
  HeapClassRow row{kind,
                   sum.block_bytes,
                   std::max<int64_t>(sum.live_blocks, 0),
                   sum.free_blocks,
                   sum.cached_blocks,
                   sum.spans,
                   sum.purged_pages,
                   std::max<int64_t>(sum.live_bytes, 0)};
  switch (kind) {
    case HeapClassRow::Kind::kBlocks:
      break;
    case HeapClassRow::Kind::kLarge:
      row.block_bytes = row.free = row.cached = row.purged = kNone;
      break;
    case HeapClassRow::Kind::kHuge:
      row.block_bytes = row.free = row.spans = row.purged = kNone;
      break;
    case HeapClassRow::Kind::kSlices:
      row.live = row.cached = row.spans = row.live_bytes = kNone;
      break;
  }
  return row;
}

void rows(const HeapVisitor& visitor) noexcept {
  using Kind = HeapClassRow::Kind;
  heap::ClassFigures classes[heap::kBins];
  heap::figures::by_class(classes);
  const auto tell = [&](Kind kind, unsigned class_index) {
    visitor.class_row(visitor.context, class_row(kind, classes[class_index]));
  };
  for (unsigned i = 1; i <= heap::kSmallClasses; ++i) tell(Kind::kBlocks, i);
  tell(Kind::kLarge, heap::kLargeClass);
  tell(Kind::kHuge, heap::kHugeClass);
  tell(Kind::kSlices, heap::kNoClass);
  const heap::ThreadFigures others = heap::figures::other_threads();
  visitor.thread_row(visitor.context, {0, others.held_bytes, others.cached_bytes});
  heap::figures::for_each_thread(
      [](const heap::ThreadFigures& thread, void* arg) {
        const auto& wanted = *static_cast<const HeapVisitor*>(arg);
        wanted.thread_row(wanted.context, {thread.tid, thread.held_bytes, thread.cached_bytes});
      },
      const_cast<HeapVisitor*>(&visitor));
}

int64_t own_net_freed() noexcept { return -heap::thread_caches::own_live_bytes(); }

int thread_count() noexcept { return static_cast<int>(heap::thread_caches::count()); }

void publish_own(bool and_flush) noexcept {
  if (and_flush) {
    heap::flush_own_cache();
  } else {
    heap::publish_own();
  }
}

void set_quantum_bytes(int64_t bytes) noexcept {
  heap::set_quantum_bytes(static_cast<uint64_t>(bytes));
}

void set_cache_bytes(int64_t bytes) noexcept {
  heap::set_cache_bytes(static_cast<uint32_t>(bytes));
}

void set_sample_interval_bytes(int64_t bytes) noexcept {
  heap::set_sample_interval_bytes(static_cast<uint64_t>(bytes));
}

constinit std::atomic<int64_t> purge_calls{0};

Purged purge(unsigned most_calls, int64_t least_bytes, uint32_t* position) noexcept {
  os::ErrnoGuard guard;
  const heap::PurgeResult result =
      heap::purge(most_calls, static_cast<size_t>(least_bytes), position);
  purge_calls.fetch_add(result.calls, std::memory_order_relaxed);
  return {static_cast<int64_t>(result.bytes), result.complete};
}

int64_t madvise_calls() noexcept {
  return purge_calls.load(std::memory_order_relaxed) + mappings::madvise_calls();
}

}  // namespace

namespace heap {

constinit const PageSource page_source_at_start = backing::kPages;
constinit const HeapOps heap_ops_at_start = {
    .publish = publish,
    .look = look_up,
    .foreign_free = foreign_free,
    .foreign_usable = backing::usable_if_own,
    .out_of_memory = set_errno,
    .arm_thread_exit = arm_thread_exit,
    .now_ms = coarse_ms,
    .sampled = profile::sampled,
    .sample_freed = profile::sample_freed,
};

}  // namespace heap

namespace heap_ties {

constinit const AllocatorOps kAllocatorOps{
    .totals = totals,
    .held = held,
    .rows = rows,
    .own_net_freed = own_net_freed,
    .thread_count = thread_count,
    .publish_own = publish_own,
    .set_quantum_bytes = set_quantum_bytes,
    .set_cache_bytes = set_cache_bytes,
    .set_sample_interval_bytes = set_sample_interval_bytes,
    .look_at_next_allocation = heap::look_at_next_allocation,
    .purge = purge,
    .madvise_calls = madvise_calls,
    .mapped_bytes = mappings::mapped_bytes,
};

void notice_thread_exits() noexcept {
  exit_key_made = pthread_key_create(&exit_key, [](void*) { heap::thread_exit(); }) == 0;
}

void mind_address_space() noexcept {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  heap::regions::set_first_chunk_bytes(heap::kRegionBytes);
}

}  // namespace heap_ties
}  // namespace memlimit
