/* See sites.h. */
#include "profile/sites.h"

#include <cstring>

#include "system/os.h"

namespace memlimit::profile {

struct Sites::Site {
  Number next;
  uint32_t depth;
  uint64_t hash;
  std::atomic<uint64_t> live_bytes, live_parts, total_bytes, total_parts;

  /* They follow. */
  uintptr_t* frames() noexcept { return reinterpret_cast<uintptr_t*>(this + 1); }
  const uintptr_t* frames() const noexcept { return reinterpret_cast<const uintptr_t*>(this + 1); }
};

namespace {

/* Blocks are counted in parts: one sample of a large block stands for 1.6 of them. */
constexpr uint64_t kPartsPerBlock = 64;

uint64_t parts_of(uint64_t bytes, uint64_t block_bytes) noexcept {
  return (bytes * kPartsPerBlock + block_bytes / 2) / block_bytes;
}

uint64_t blocks_of(uint64_t parts) noexcept {
  return (parts + kPartsPerBlock / 2) / kPartsPerBlock;
}

uint64_t hash_of(const uintptr_t* frames, int depth) noexcept {
  uint64_t hash = static_cast<uint64_t>(depth);
  for (int i = 0; i < depth; ++i) {
    hash = (hash ^ frames[i]) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

bool Sites::open() noexcept {
  auto* const table = static_cast<char*>(os::map_pages(kTableBytes));
  if (table == nullptr) return false;
  // The heads come first, then kNoSite's figures: no other site is so near to the beginning.
  used_.store(kHeads * sizeof(Number) + sizeof(Site), std::memory_order_relaxed);
  base_ = table;
  return true;
}

Sites::Site& Sites::at(Number site) const noexcept {
  const size_t offset = site == kNoSite ? kHeads * sizeof(Number) : size_t{site} * kUnit;
  return *reinterpret_cast<Site*>(base_ + offset);
}

Sites::Number Sites::next_of(Number site) const noexcept { return at(site).next; }

Sites::Number Sites::search(Number from, Number to, uint64_t hash, const uintptr_t* frames,
                            int depth) const noexcept {
  for (Number number = from; number != to; number = next_of(number)) {
    const Site& site = at(number);
    if (site.hash == hash && site.depth == static_cast<uint32_t>(depth) &&
        memcmp(site.frames(), frames, sizeof *frames * static_cast<size_t>(depth)) == 0)
      return number;
  }
  return kNoSite;
}

Sites::Number Sites::find_or_add(const uintptr_t* frames, int depth) noexcept {
  const uint64_t hash = hash_of(frames, depth);
  std::atomic<Number>& first = head(hash % kHeads);
  // Acquire: a site is filled in before it is seen.
  Number seen = first.load(std::memory_order_acquire);
  if (const Number found = search(seen, kNoSite, hash, frames, depth); found != kNoSite)
    return found;
  const size_t frames_bytes = sizeof *frames * static_cast<size_t>(depth);
  const size_t bytes = sizeof(Site) + frames_bytes;
  size_t offset = used_.load(std::memory_order_relaxed);
  do {
    if (offset + bytes > kTableBytes) return kNoSite;
  } while (!used_.compare_exchange_weak(offset, offset + bytes, std::memory_order_relaxed));
  const auto number = static_cast<Number>(offset / kUnit);
  Site& site = at(number);
  site.hash = hash;
  site.depth = static_cast<uint32_t>(depth);
  memcpy(site.frames(), frames, frames_bytes);
  Number before = seen;
  do {
    // Another thread was faster, perhaps with the same stack: then this room is lost.
    if (const Number found = search(seen, before, hash, frames, depth); found != kNoSite)
      return found;
    before = seen;
    site.next = seen;
  } while (!first.compare_exchange_weak(seen, number, std::memory_order_release,
                                        std::memory_order_acquire));
  count_.fetch_add(1, std::memory_order_relaxed);
  return number;
}

void Sites::add(Number number, uint64_t bytes, uint64_t block_bytes) noexcept {
  Site& site = at(number);
  const uint64_t parts = parts_of(bytes, block_bytes);
  site.total_bytes.fetch_add(bytes, std::memory_order_relaxed);
  site.total_parts.fetch_add(parts, std::memory_order_relaxed);
  site.live_bytes.fetch_add(bytes, std::memory_order_relaxed);
  site.live_parts.fetch_add(parts, std::memory_order_relaxed);
}

void Sites::remove(Number number, uint64_t bytes, uint64_t block_bytes) noexcept {
  Site& site = at(number);
  site.live_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  site.live_parts.fetch_sub(parts_of(bytes, block_bytes), std::memory_order_relaxed);
}

SiteFigures Sites::figures(Number number) const noexcept {
  const Site& site = at(number);
  return {site.live_bytes.load(std::memory_order_relaxed),
          blocks_of(site.live_parts.load(std::memory_order_relaxed)),
          site.total_bytes.load(std::memory_order_relaxed),
          blocks_of(site.total_parts.load(std::memory_order_relaxed))};
}

int Sites::frames(Number number, const uintptr_t** out) const noexcept {
  const Site& site = at(number);
  *out = site.frames();
  return static_cast<int>(site.depth);
}

}  // namespace memlimit::profile
