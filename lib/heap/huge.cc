/* See huge.h. */
#include "heap/huge.h"

#include <algorithm>
#include <atomic>

#include "heap/address_map.h"
#include "heap/page_source.h"

namespace memlimit::heap::huge {
namespace {

constexpr unsigned kPlaces = 16;

struct Place {
  std::atomic<void*> block;
  std::atomic<bool> aged;
};

constinit Place places[kPlaces];
constinit std::atomic<size_t> kept_bytes{0};
constinit std::atomic<size_t> live{0};
constinit std::atomic<int64_t> blocks{0};

void set_block(void* block, size_t bytes, size_t mapped_bytes, const PageSource& source) noexcept {
  HugeBlock& record = huge_block_at(block);
  record.source.store(&source, std::memory_order_relaxed);
  record.mapped_bytes.store(mapped_bytes, std::memory_order_relaxed);
  record.bytes.store(bytes, std::memory_order_relaxed);
  live.fetch_add(bytes, std::memory_order_relaxed);
  blocks.fetch_add(1, std::memory_order_relaxed);
  class_byte(block).store(kHugeClass, std::memory_order_relaxed);
}

size_t mapped_bytes_of(const void* block) noexcept {
  return huge_block_at(block).mapped_bytes.load(std::memory_order_relaxed);
}

void unmap(void* block) noexcept {
  const HugeBlock& record = huge_block_at(block);
  record.source.load(std::memory_order_relaxed)
      ->unmap_huge(block, record.mapped_bytes.load(std::memory_order_relaxed));
}

/* Acquire and release: what the last owner did to the block comes before the next one. */
void* take_from(Place& place) noexcept {
  if (place.block.load(std::memory_order_relaxed) == nullptr) return nullptr;
  void* const block = place.block.exchange(nullptr, std::memory_order_acq_rel);
  if (block != nullptr) kept_bytes.fetch_sub(mapped_bytes_of(block), std::memory_order_relaxed);
  return block;
}

/* Into a free place, or back to where it came from. */
void keep(void* block) noexcept {
  const size_t mapped_bytes = mapped_bytes_of(block);
  if (mapped_bytes <= kLargestKeptBytes) {
    const size_t before = kept_bytes.fetch_add(mapped_bytes, std::memory_order_relaxed);
    for (unsigned i = 0; i < kPlaces && before + mapped_bytes <= kKeptBytes; ++i) {
      void* none = nullptr;
      places[i].aged.store(false, std::memory_order_relaxed);
      if (places[i].block.compare_exchange_strong(none, block, std::memory_order_acq_rel)) return;
    }
    kept_bytes.fetch_sub(mapped_bytes, std::memory_order_relaxed);
  }
  unmap(block);
}

/* A kept block that is large enough and not much larger. */
void* take_kept(size_t bytes, size_t alignment) noexcept {
  if (bytes > kLargestKeptBytes) return nullptr;
  for (Place& place : places) {
    void* const block = take_from(place);
    if (block == nullptr) continue;
    const size_t mapped_bytes = mapped_bytes_of(block);
    const bool fits = mapped_bytes >= bytes && mapped_bytes / 2 <= bytes;
    if (fits && (reinterpret_cast<uintptr_t>(block) & (alignment - 1)) == 0) return block;
    keep(block);
  }
  return nullptr;
}

}  // namespace

void* allocate(size_t bytes, size_t alignment, bool* zero) noexcept {
  alignment = std::max(alignment, kSliceBytes);
  void* block = take_kept(bytes, alignment);
  *zero = block == nullptr;
  if (block != nullptr) {
    const HugeBlock& record = huge_block_at(block);
    set_block(block, bytes, mapped_bytes_of(block), *record.source.load(std::memory_order_relaxed));
    return block;
  }
  const PageSource& source = page_source();
  // At least a region's: its record is found by the 4 MiB that it begins in. Only over-aligned ones are smaller.
  const size_t mapped_bytes = std::max(bytes, kRegionBytes);
  block = source.map_huge(mapped_bytes, alignment);
  if (block == nullptr && drop_kept(false) > 0) block = source.map_huge(mapped_bytes, alignment);
  if (block == nullptr) return nullptr;
  if (!make_leaves(block, 1)) {
    source.unmap_huge(block, mapped_bytes);
    return nullptr;
  }
  set_block(block, bytes, mapped_bytes, source);
  return block;
}

size_t release(void* block) noexcept {
  const size_t bytes = huge_block_at(block).bytes.exchange(0, std::memory_order_relaxed);
  live.fetch_sub(bytes, std::memory_order_relaxed);
  blocks.fetch_sub(1, std::memory_order_relaxed);
  keep(block);
  return bytes;
}

size_t usable_bytes(const void* block) noexcept {
  return huge_block_at(block).bytes.load(std::memory_order_relaxed);
}

void* resize(void* block, size_t bytes) noexcept {
  HugeBlock& record = huge_block_at(block);
  const PageSource& source = *record.source.load(std::memory_order_relaxed);
  const size_t mapped_bytes = record.mapped_bytes.load(std::memory_order_relaxed);
  // Where it moves to must have a leaf: there is no way back then.
  if (!reserve_leaf()) return nullptr;
  // Before the pages are let go of: the next moment the same address may be another thread's new block.
  class_byte(block).store(kNoClass, std::memory_order_relaxed);
  const size_t old_bytes = record.bytes.exchange(0, std::memory_order_relaxed);
  live.fetch_sub(old_bytes, std::memory_order_relaxed);
  blocks.fetch_sub(1, std::memory_order_relaxed);
  void* const moved = source.resize_huge(block, mapped_bytes, bytes, true);
  if (moved == nullptr || !make_leaves(moved, 1)) {
    // The second: another thread has taken the leaf, and there is no memory for one more. Back to where there is one.
    if (moved != nullptr) source.resize_huge(moved, bytes, mapped_bytes, false);
    set_block(block, old_bytes, mapped_bytes, source);
    return nullptr;
  }
  set_block(moved, bytes, bytes, source);
  return moved;
}

size_t drop_kept(bool only_aged) noexcept {
  size_t bytes = 0;
  for (Place& place : places) {
    if (place.block.load(std::memory_order_relaxed) == nullptr) continue;
    if (only_aged && !place.aged.exchange(true, std::memory_order_relaxed)) continue;
    if (void* const block = take_from(place)) {
      bytes += mapped_bytes_of(block);
      unmap(block);
    }
  }
  return bytes;
}

size_t live_bytes() noexcept { return live.load(std::memory_order_relaxed); }
int64_t live_blocks() noexcept { return blocks.load(std::memory_order_relaxed); }

}  // namespace memlimit::heap::huge
