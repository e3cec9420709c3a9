/* See sites.h. */
#include "profile/sites.h"

#include <cstring>

namespace memlimit::profile {

struct Sites::Site {
  ChainLink link;
  uint32_t depth;
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

// kNoSite's figures lie before all others.
bool Sites::open() noexcept { return chains_.open(kTableBytes, sizeof(Site)); }

Sites::Site& Sites::at(Number site) const noexcept {
  return *reinterpret_cast<Site*>(site == kNoSite ? chains_.own() : chains_.at(site));
}

Sites::Number Sites::find_or_add(const uintptr_t* frames, int depth) noexcept {
  const size_t frames_bytes = sizeof *frames * static_cast<size_t>(depth);
  const auto same = [&](const char* record) {
    const auto& site = *reinterpret_cast<const Site*>(record);
    return site.depth == static_cast<uint32_t>(depth) &&
           memcmp(site.frames(), frames, frames_bytes) == 0;
  };
  const auto fill = [&](char* record) {
    auto& site = *reinterpret_cast<Site*>(record);
    site.depth = static_cast<uint32_t>(depth);
    memcpy(site.frames(), frames, frames_bytes);
  };
  bool added = false;
  const Number site =
      chains_.find_or_add(hash_of(frames, depth), sizeof(Site) + frames_bytes, same, fill, &added);
  if (added) count_.fetch_add(1, std::memory_order_relaxed);
  return site;
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
