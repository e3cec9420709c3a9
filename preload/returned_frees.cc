/* See returned_frees.h. The owner of a block is the thread that its segment (32 MiB, aligned to that) names, by its
 * thread pointer, as in all of mimalloc 2 (types.h, mi_segment_t::thread_id); where in the header that is, is found
 * out by looking for our own. A segment of nobody says 0. */
#include "returned_frees.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "attributes.h"
#include "backing.h"
#include "os.h"
#include "slow_path.h"

namespace memlimit::returned_frees {
namespace {

constexpr size_t kSegmentBytes = size_t{32} << 20;
/* The header's fields end long before. */
constexpr size_t kHeaderWords = 64;

/* Larger blocks are written to for longer than it takes to get one over, and would fill a box with megabytes. */
constexpr size_t kMostBlockBytes = 4096;

/* A pass at 256 MiB frees some 5,000 blocks; what does not fit goes the old way. */
constexpr uint32_t kBoxBlocks = 8192;
constexpr size_t kBoxes = 64;

/* Lines that are asked for before they are needed. */
constexpr uint32_t kAhead = 8;

using Slot = std::atomic<void*>;

/* One producer, the service thread; one consumer at a time, who has set `taking`. A line for what both read, one for
 * what the producer writes, one for what the consumer does. */
struct Box {                       // NOLINT(clang-analyzer-optin.performance.Padding)
  std::atomic<uintptr_t> owner{0}; /* its thread pointer; 0: the box was never used */
  Slot* slots = nullptr;           /* written before `owner` */
  alignas(64) std::atomic<uint32_t> head{0};
  uint32_t tail_at_last_pass = 0; /* the producer's own */
  alignas(64) std::atomic<uint32_t> tail{0};
  std::atomic<bool> taking{false};

  bool is_empty() const noexcept {
    return head.load(std::memory_order_acquire) == tail.load(std::memory_order_acquire);
  }
};

constinit Box boxes[kBoxes]{};
constinit std::atomic<bool> any{false};
constinit std::atomic<bool> off{false};

/* Service thread's. Words into the header of a segment; 0: not looked for, or not found. */
constinit size_t owner_word = 0;
constinit bool looked = false;

/* The box that this thread is taking from: a signal handler that forks may interrupt it. */
MEMLIMIT_TLS const Box* taking_here = nullptr;

uintptr_t this_owner() noexcept { return reinterpret_cast<uintptr_t>(__builtin_thread_pointer()); }

std::atomic<uintptr_t>* header_of(const void* block) noexcept {
  return reinterpret_cast<std::atomic<uintptr_t>*>(reinterpret_cast<uintptr_t>(block) /
                                                   kSegmentBytes * kSegmentBytes);
}

void find_owner_word() noexcept {
  looked = true;
  const int version = backing::version();
  if (version < 200 || version >= 300) return;
  void* const block = backing::allocate(backing::kMinimumBytes);
  if (block == nullptr) return;
  const std::atomic<uintptr_t>* const header = header_of(block);
  size_t found = 0;
  int times = 0;
  for (size_t i = 1; i < kHeaderWords; ++i) {
    if (header[i].load(std::memory_order_relaxed) != this_owner()) continue;
    found = i;
    ++times;
  }
  // It may be the first of a page, which whoever is given the second has not seen.
  slow::release_uncounted(block);
  if (times == 1) owner_word = found;
}

/* Thread pointers are far apart, and their low bits alike. */
size_t first_box(uintptr_t owner) noexcept {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
  return (owner >> 6) * kGolden >> 58;
}
static_assert(kBoxes == 64);

/* A few places for each owner. */
constexpr size_t kProbes = 8;

Box* box_of(uintptr_t owner) noexcept {
  for (size_t i = 0; i < kProbes; ++i) {
    Box& box = boxes[(first_box(owner) + i) % kBoxes];
    const uintptr_t seen = box.owner.load(std::memory_order_acquire);
    if (seen == owner) return &box;
    if (seen == 0) return nullptr;
  }
  return nullptr;
}

/* A box for an owner who has none: one never used, else one whose owner has left it empty. Whoever had that may
 * look into it once more; whatever it finds there it may free. */
Box* claim(uintptr_t owner) noexcept {
  for (size_t i = 0; i < kProbes; ++i) {
    Box& box = boxes[(first_box(owner) + i) % kBoxes];
    if (box.owner.load(std::memory_order_relaxed) == 0) {
      box.slots = static_cast<Slot*>(os::map_pages(kBoxBlocks * sizeof(Slot)));
      if (box.slots == nullptr) {
        turn_off();  // out of address space: do not try at each free
        return nullptr;
      }
    } else if (!box.is_empty() ||
               box.tail_at_last_pass != box.tail.load(std::memory_order_relaxed)) {
      continue;
    }
    box.owner.store(owner, std::memory_order_release);
    any.store(true, std::memory_order_release);
    return &box;
  }
  return nullptr;
}

void take_from(Box& box, uint32_t most) noexcept {
  if (box.is_empty() || box.taking.exchange(true, std::memory_order_acquire)) return;
  taking_here = &box;
  uint32_t tail = box.tail.load(std::memory_order_relaxed);
  const uint32_t head = box.head.load(std::memory_order_acquire);
  const auto at = [&box](uint32_t i) {
    return box.slots[i % kBoxBlocks].load(std::memory_order_relaxed);
  };
  const uint32_t end = tail + std::min(head - tail, most);
  for (uint32_t i = tail; i != end && i - tail < kAhead; ++i) __builtin_prefetch(at(i), 1);
  while (tail != end) {
    if (end - tail > kAhead) __builtin_prefetch(at(tail + kAhead), 1);
    void* const block = at(tail);
    // First: in the child of a fork in between, the block is lost and not freed twice.
    box.tail.store(++tail, std::memory_order_release);
    backing::release(block);
  }
  taking_here = nullptr;
  box.taking.store(false, std::memory_order_release);
}

}  // namespace

void turn_off() noexcept { off.store(true, std::memory_order_relaxed); }

bool give(void* block, size_t block_bytes) noexcept {
  // What no slot knows (nullptr, or no block at all) has 0 bytes, and a segment to read perhaps neither.
  if (block_bytes == 0 || block_bytes > kMostBlockBytes) return false;
  if (off.load(std::memory_order_relaxed)) return false;
  if (!looked) find_owner_word();
  if (owner_word == 0) return false;
  const uintptr_t owner = header_of(block)[owner_word].load(std::memory_order_relaxed);
  if (owner == 0 || owner == this_owner()) return false;
  Box* box = box_of(owner);
  if (box == nullptr) box = claim(owner);
  if (box == nullptr) return false;
  const uint32_t head = box->head.load(std::memory_order_relaxed);
  // Acquire: the slot is written again only after it was read.
  if (head - box->tail.load(std::memory_order_acquire) >= kBoxBlocks) return false;
  box->slots[head % kBoxBlocks].store(block, std::memory_order_relaxed);
  box->head.store(head + 1, std::memory_order_release);
  return true;
}

void take(uint32_t most_blocks) noexcept {
  if (MEMLIMIT_LIKELY(!any.load(std::memory_order_acquire))) return;
  if (Box* const box = box_of(this_owner())) take_from(*box, most_blocks);
}

void take_stale() noexcept {
  if (!any.load(std::memory_order_relaxed)) return;
  for (Box& box : boxes) {
    if (box.owner.load(std::memory_order_relaxed) == 0) continue;
    const uint32_t tail = box.tail.load(std::memory_order_relaxed);
    if (tail == box.tail_at_last_pass) take_from(box, kBoxBlocks);
    box.tail_at_last_pass = box.tail.load(std::memory_order_relaxed);
  }
}

void take_all() noexcept {
  if (!any.load(std::memory_order_acquire)) return;
  for (Box& box : boxes) {
    if (box.owner.load(std::memory_order_acquire) != 0) take_from(box, kBoxBlocks);
  }
}

void reset_after_fork() noexcept {
  for (Box& box : boxes) {
    if (&box != taking_here) box.taking.store(false, std::memory_order_relaxed);
  }
}

}  // namespace memlimit::returned_frees
