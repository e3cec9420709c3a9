/* See recycled_blocks.h. For each block size a ring of addresses, with one producer and any number of consumers: head is
 * the service thread's, the tail belongs to whoever moves it. A consumer reads the slot first and moves the tail then, so
 * that only a block that nobody else has taken meanwhile is its own. The producer writes a slot again only after the tail
 * has passed it, and the numbers never come round. */
#include "recycled_blocks.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>

#include <mimalloc.h>

#include "backing.h"
#include "block_size.h"
#include "engine/account.h"
#include "engine/paced.h"
#include "engine/pressure.h"
#include "engine/thread_state.h"
#include "system/attributes.h"
#include "system/os.h"

namespace memlimit::recycled_blocks {
namespace {

/* Smaller blocks share cache lines with their neighbours, which other threads then write to. Larger ones are written for
 * longer than it takes to get a page for them. */
constexpr size_t kLeastBlockBytes = 64;
constexpr size_t kMostBlockBytes = 4096;

/* mimalloc's sizes: multiples of 16 up to 64, then four for each doubling. */
constexpr size_t kSizes = 28;
constexpr size_t kEvenBytes = 64;
constexpr size_t kEvenStep = 16;
constexpr size_t kEvenSizes = kEvenBytes / kEvenStep;
constexpr size_t kEvenBits = 6;

constexpr size_t index_of(size_t block_bytes) noexcept {
  if (block_bytes <= kEvenBytes) return block_bytes / kEvenStep - 1;
  const size_t bits = std::bit_width(block_bytes - 1) - size_t{1};
  return kEvenSizes + (bits - kEvenBits) * 4 + ((block_bytes - 1) >> (bits - 2)) % 4;
}
constexpr size_t bytes_at(size_t index) noexcept {
  if (index < kEvenSizes) return (index + 1) * kEvenStep;
  const size_t beyond = index - kEvenSizes;
  return (beyond % 4 + 5) << (beyond / 4 + kEvenBits - 2);
}
static_assert(index_of(kMostBlockBytes) == kSizes - 1);
static_assert([] {
  for (size_t i = 0; i < kSizes; ++i) {
    if (index_of(bytes_at(i)) != i) return false;
  }
  return true;
}());

/* The index of a size that is kept, or kSizes. */
size_t kept_index(size_t block_bytes) noexcept {
  if (block_bytes < kLeastBlockBytes || block_bytes > kMostBlockBytes) return kSizes;
  const size_t index = index_of(block_bytes);
  return bytes_at(index) == block_bytes ? index : kSizes;
}

/* All of what is kept: this part of the limit. A pass frees 2 to 4 % of it, and what was kept for the highest usage of
 * late is kept below that, too. */
constexpr int64_t kMostKeptDivisor = 8;
/* After it was found to be as much, so many blocks are freed before it is looked at again. */
constexpr uint32_t kBlocksUnseen = 64;

/* A ring of this many addresses, for blocks of up to all that may be kept. */
constexpr size_t kMostSlots = 2048;
constexpr size_t kLeastSlots = 64;

/* Blocks of a size that nobody has taken any of for so many passes are freed, and none are kept for the next passes. */
constexpr uint32_t kPatiencePasses = 8;
constexpr uint32_t kPausePasses = 64;

/* A thread that has found nothing asks again when this many blocks more have been kept. */
constexpr uint32_t kNewsBlocks = 64;

/* Blocks that are asked for this long before they are needed. */
constexpr uint64_t kAhead = 4;

using Slot = std::atomic<void*>;

/* Each side keeps what it last saw of the other's end, and looks again only when that is used up: else the two lines
 * would go back and forth between the processors with every block. */
struct Ring {                        // NOLINT(clang-analyzer-optin.performance.Padding)
  std::atomic<Slot*> slots{nullptr}; /* of a power of two; written once */
  std::atomic<uint64_t> mask{0};     /* written before `slots` */
  alignas(64) std::atomic<uint64_t> head{0};
  /* The service thread's own. */
  uint64_t tail_seen = 0;
  uint64_t tail_at_last_pass = 0;
  uint64_t tail_at_last_purge = 0;
  uint32_t untouched_passes = 0;
  uint32_t pause_passes = 0;
  alignas(64) std::atomic<uint64_t> tail{0};
  std::atomic<uint64_t> head_seen{0}; /* by a thread that took; may be older than `tail` */

  uint64_t count() const noexcept {
    const uint64_t from = tail.load(std::memory_order_acquire);
    return head.load(std::memory_order_acquire) - from;
  }
};
constinit std::array<Ring, kSizes> rings{};

/* Read by threads that allocate, written rarely. */
struct alignas(64) Shared {
  std::atomic<bool> off{false};
  std::atomic<bool> any{false};     /* something may be kept */
  std::atomic<uint32_t> news{0};    /* changes when more is */
  std::atomic<int64_t> kept{0};     /* bytes, at most */
  std::atomic<int64_t> capacity{0}; /* with them the usage, when a pass last began or ended */
};
constinit Shared shared{};

/* The service thread's own. */
constinit int64_t kept_at_most = 0; /* as if nothing had been taken since it was counted */
constinit uint32_t unseen = 0;
constinit uint32_t kept_blocks = 0;
constinit bool in_pass = false; /* this pass has been looked at */

struct Own {
  std::array<uint32_t, kSizes> free_in_heap{};
  uint64_t allocated = 0; /* published, when it was last asked whether asking is worth it */
  uint64_t freed = 0;
  uint32_t found = 0; /* since */
  uint32_t found_none_at = 0;
};
MEMLIMIT_TLS Own own{};

void* take_from(Ring& ring) noexcept {
  uint64_t tail = ring.tail.load(std::memory_order_acquire);
  for (;;) {
    // Acquire, of `head` or of what another thread saw of it: the slots are there, and what the last owner of the block
    // wrote comes before what the next one does.
    if (static_cast<int64_t>(ring.head_seen.load(std::memory_order_acquire) - tail) <= 0) {
      const uint64_t head = ring.head.load(std::memory_order_acquire);
      if (static_cast<int64_t>(head - tail) <= 0) return nullptr;
      ring.head_seen.store(head, std::memory_order_release);
    }
    Slot* const slots = ring.slots.load(std::memory_order_relaxed);
    const uint64_t mask = ring.mask.load(std::memory_order_relaxed);
    void* const block = slots[tail & mask].load(std::memory_order_relaxed);
    if (!ring.tail.compare_exchange_weak(tail, tail + 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
      continue;
    }
    // Whatever the slots hold: it is not read through.
    __builtin_prefetch(&slots[(tail + 3 * kAhead) & mask]);
    __builtin_prefetch(slots[(tail + kAhead) & mask].load(std::memory_order_relaxed), 1);
    return block;
  }
}

void free_ring(Ring& ring) noexcept {
  for (uint64_t left = ring.count(); left > 0; --left) {
    void* const block = take_from(ring);
    if (block == nullptr) return;
    backing::release(block);
  }
}

int64_t count_kept() noexcept {
  int64_t bytes = 0;
  for (size_t i = 0; i < kSizes; ++i) {
    bytes += static_cast<int64_t>(rings[i].count() * bytes_at(i));
  }
  return bytes;
}

void publish_kept(int64_t bytes) noexcept {
  kept_at_most = bytes;
  shared.kept.store(bytes, std::memory_order_relaxed);
  shared.capacity.store(account::published_usage_bytes() + bytes, std::memory_order_relaxed);
  shared.any.store(bytes != 0, std::memory_order_relaxed);
}

bool has_room(int64_t most_bytes) noexcept {
  if (kept_at_most < most_bytes) return true;
  if (unseen > 0) {
    unseen -= 1;
    return false;
  }
  kept_at_most = count_kept();
  if (kept_at_most < most_bytes) return true;
  unseen = kBlocksUnseen;
  return false;
}

/* 0: nothing is to be kept. */
int64_t most_kept_bytes() noexcept {
  // Where idle pages count, what is kept would be asked of the hooks again.
  if (paced::mode() == AccountMode::kRss || paced::footprint_over()) return 0;
  return pressure::limit_bytes() / kMostKeptDivisor;
}

bool has_slots(Ring& ring, size_t block_bytes, int64_t most_bytes) noexcept {
  if (ring.slots.load(std::memory_order_relaxed) != nullptr) return true;
  const size_t blocks = static_cast<size_t>(most_bytes) / block_bytes;
  const size_t slots = std::bit_ceil(std::clamp(blocks, kLeastSlots, kMostSlots));
  const os::ErrnoGuard guard;
  void* const memory = os::map_pages(slots * sizeof(Slot));
  if (memory == nullptr) {
    shared.off.store(true,
                     std::memory_order_relaxed);  // out of address space: do not try at each free
    return false;
  }
  ring.mask.store(slots - 1, std::memory_order_relaxed);
  ring.slots.store(static_cast<Slot*>(memory), std::memory_order_relaxed);
  return true;
}

bool count_free_blocks(const mi_heap_t*, const mi_heap_area_t* area, void*, size_t, void*) {
  if (area == nullptr || area->blocks == nullptr) return true;
  const size_t index = kept_index(area->block_size);
  if (index == kSizes) return true;
  // What is committed has been touched; beyond that a block costs memory as in a fresh page.
  const size_t blocks = area->committed / area->block_size;
  if (blocks > area->used) {
    own.free_in_heap[index] += static_cast<uint32_t>(blocks - area->used);
  }
  return true;
}

}  // namespace

bool keep(void* block, size_t block_bytes) noexcept {
  const size_t index = kept_index(block_bytes);
  if (index == kSizes || shared.off.load(std::memory_order_relaxed)) return false;
  Ring& ring = rings[index];
  const int64_t most_bytes = most_kept_bytes();
  // Usage is at its highest now.
  if (!in_pass) publish_kept(count_kept());
  in_pass = true;
  if (most_bytes == 0 || ring.pause_passes > 0 || !has_room(most_bytes)) return false;
  if (!has_slots(ring, block_bytes, most_bytes)) return false;
  const uint64_t head = ring.head.load(std::memory_order_relaxed);
  const uint64_t mask = ring.mask.load(std::memory_order_relaxed);
  if (head - ring.tail_seen > mask) {
    // Acquire: the slot is written again only after it was read.
    ring.tail_seen = ring.tail.load(std::memory_order_acquire);
    if (head - ring.tail_seen > mask) return false;
  }
  ring.slots.load(std::memory_order_relaxed)[head & mask].store(block, std::memory_order_relaxed);
  ring.head.store(head + 1, std::memory_order_release);
  kept_at_most += static_cast<int64_t>(block_bytes);
  if (kept_blocks++ % kNewsBlocks == 0) {
    shared.news.fetch_add(1, std::memory_order_relaxed);
    shared.kept.store(kept_at_most, std::memory_order_relaxed);
    shared.any.store(true, std::memory_order_relaxed);
  }
  return true;
}

void* take(size_t block_bytes) noexcept {
  const size_t index = kept_index(block_bytes);
  if (index == kSizes) return nullptr;
  // Read once: a signal handler may come in between.
  const uint32_t free_in_heap = own.free_in_heap[index];
  if (free_in_heap > 0) {
    own.free_in_heap[index] = free_in_heap - 1;
    own.found += 1;
    return nullptr;
  }
  void* const block = take_from(rings[index]);
  if (block != nullptr) own.found += 1;
  return block;
}

bool worth_asking() noexcept {
  if (!shared.any.load(std::memory_order_relaxed) || this_thread.is_service) return false;
  const ThreadNode& node = *this_thread.node;
  const uint64_t allocated = node.published_allocated - own.allocated;
  const uint64_t freed = node.published_freed - own.freed;
  own.allocated = node.published_allocated;
  own.freed = node.published_freed;
  const uint32_t news = shared.news.load(std::memory_order_relaxed);
  if (this_thread.looks_at_every_allocation && own.found == 0) own.found_none_at = news;
  own.found = 0;
  // What a thread frees itself it finds again in its own heap, warm, and its next free of it takes no atomic.
  return freed <= allocated / 2 && own.found_none_at != news;
}

void heap_was_collected() noexcept {
  if (!shared.any.load(std::memory_order_relaxed) || this_thread.is_service) return;
  own.free_in_heap.fill(0);
  mi_heap_visit_blocks(mi_heap_get_default(), false, count_free_blocks, nullptr);
}

void pass_ended() noexcept {
  for (Ring& ring : rings) {
    if (ring.pause_passes > 0) ring.pause_passes -= 1;
    const uint64_t tail = ring.tail.load(std::memory_order_relaxed);
    const bool untouched = tail == ring.tail_at_last_pass && ring.count() > 0;
    ring.untouched_passes = untouched ? ring.untouched_passes + 1 : 0;
    if (ring.untouched_passes >= kPatiencePasses) {
      free_ring(ring);
      ring.untouched_passes = 0;
      ring.pause_passes = kPausePasses;
    }
    ring.tail_at_last_pass = ring.tail.load(std::memory_order_relaxed);
  }
  publish_kept(count_kept());
  in_pass = false;
}

int64_t kept_bytes() noexcept {
  const int64_t kept = shared.kept.load(std::memory_order_relaxed);
  if (kept == 0) return 0;
  // What was taken since has raised usage.
  const int64_t left =
      shared.capacity.load(std::memory_order_relaxed) - account::published_usage_bytes();
  return std::clamp<int64_t>(left, 0, kept);
}

void free_unused() noexcept {
  const bool over = paced::footprint_over();
  for (Ring& ring : rings) {
    const uint64_t tail = ring.tail.load(std::memory_order_relaxed);
    if (over || tail == ring.tail_at_last_purge) free_ring(ring);
    ring.tail_at_last_purge = ring.tail.load(std::memory_order_relaxed);
  }
  publish_kept(count_kept());
}

void free_all() noexcept {
  for (Ring& ring : rings) free_ring(ring);
  shared.kept.store(0, std::memory_order_relaxed);
}

void turn_off() noexcept {
  shared.off.store(true, std::memory_order_relaxed);
  free_all();
}

}  // namespace memlimit::recycled_blocks
