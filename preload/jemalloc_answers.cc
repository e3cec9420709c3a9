/* See jemalloc_answers.h. */
#include "jemalloc_answers.h"

#include "engine/explicit_reclaim.h"
#include "heap/heap.h"
#include "heap/purge.h"

namespace memlimit::jemalloc::answers {

/* The service thread gives idle pages back, whether the program wants jemalloc's to do that or not. */
constinit std::atomic<bool> background_thread{false};
constinit std::atomic<size_t> background_threads{1};
constinit std::atomic<ssize_t> dirty_decay_ms{heap::decay::kDefaultDelayMs};
constinit std::atomic<ssize_t> muzzy_decay_ms{0};

int stays_off(const Request& request, Mib) noexcept {
  bool on = false;
  if (const int error = request.write(&on)) return error;
  return on ? ENOENT : request.read(false);
}

int allocated(const Request& request, Mib) noexcept { return request.answer(heap_live_bytes()); }

size_t large_bytes(const ArenaReport& report) noexcept {
  return live_bytes(report.classes[heap::kLargeClass]) +
         live_bytes(report.classes[heap::kHugeClass]);
}

unsigned threads(const ArenaReport& report) noexcept {
  return static_cast<unsigned>(report.threads);
}

uint64_t purges(const ArenaReport& report) noexcept { return report.purges; }

uint64_t purged_pages(const ArenaReport& report) noexcept {
  return report.purged_bytes / heap::kPageBytes;
}

size_t live_bytes(const heap::ClassFigures& bin) noexcept {
  return static_cast<size_t>(bin.live_bytes);
}

size_t live_blocks(const heap::ClassFigures& bin) noexcept {
  return static_cast<size_t>(bin.live_blocks);
}

size_t slabs(const heap::ClassFigures& bin) noexcept {
  constexpr int64_t kPages = heap::kPagesPerSlice;
  const int64_t blocks = heap::kClasses[heap::class_of(bin.block_bytes)].blocks;
  const int64_t held = (bin.spans * kPages - bin.purged_pages + kPages - 1) / kPages;
  return static_cast<size_t>(std::max(held, (bin.live_blocks + blocks - 1) / blocks));
}

uint64_t allocated_blocks(const heap::ClassFigures& bin) noexcept {
  // Threads without a cache take blocks that are not counted by class.
  return static_cast<uint64_t>(std::max(bin.popped_blocks, bin.live_blocks));
}

uint64_t freed_blocks(const heap::ClassFigures& bin) noexcept {
  return allocated_blocks(bin) - live_blocks(bin);
}

uint64_t uncounted(const heap::ClassFigures&) noexcept { return 0; }

void purge() noexcept { explicit_reclaim::purge_now(); }

int epoch(const Request& request, Mib) noexcept {
  uint64_t ignored = 0;
  if (const int error = request.write(&ignored)) return error;
  return request.read(request.fresh != nullptr ? begin_epoch() : current_epoch());
}

int thread_arena(const Request& request, Mib) noexcept {
  unsigned chosen = 0;
  if (const int error = request.write(&chosen)) return error;
  return chosen < arenas::count() ? request.read(0U) : EFAULT;
}

int thread_cache(const Request& request, Mib) noexcept {
  bool ignored = true;
  if (const int error = request.write(&ignored)) return error;
  return request.read(true);
}

int create_cache(const Request& request, Mib) noexcept {
  return request.writes() ? EPERM : request.demand(0U);
}

int give_up_cache(const Request& request, Mib) noexcept {
  unsigned ignored = 0;
  if (request.reads()) return EPERM;
  return request.fresh == nullptr ? EINVAL : request.write(&ignored);
}

int count_arenas(const Request& request, Mib) noexcept { return request.answer(arenas::count()); }

int create_arena(const Request& request, Mib) noexcept {
  if (request.writes()) return EPERM;
  // A size that is wrong makes none.
  if (const int error = request.demand(0U)) return error;
  const unsigned index = arenas::create();
  return index == 0 ? EAGAIN : request.demand(index);
}

int end_arena(const Request& request, Mib mib) noexcept {
  if (!arenas::exist(mib[1])) return ENOENT;
  return request.reads() || request.writes() ? EPERM : EFAULT;
}

int find_arena(const Request& request, Mib) noexcept {
  const void* block = nullptr;
  if (const int error = request.write(&block)) return error;
  return heap::usable_bytes(block) == 0 ? EINVAL : request.read(0U);
}

}  // namespace memlimit::jemalloc::answers
