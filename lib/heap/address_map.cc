/* See address_map.h. */
#include "heap/address_map.h"

#include "system/os.h"

namespace memlimit::heap {

constinit AddressDirectory address_directory;

namespace {

size_t window_of(const void* address) noexcept {
  return reinterpret_cast<uintptr_t>(address) >> kWindowShift;
}

size_t region_index(const void* address) noexcept {
  return reinterpret_cast<uintptr_t>(address) >> kRegionShift & (AddressLeaf::kRegions - 1);
}

AddressLeaf* leaf_at_offset(intptr_t offset) noexcept {
  return reinterpret_cast<AddressLeaf*>(reinterpret_cast<intptr_t>(address_directory.no_leaf) +
                                        offset);
}

constinit std::atomic<void*> spare_leaf{nullptr};
constinit std::atomic<size_t> leaves{0};

}  // namespace

AddressLeaf* find_leaf(const void* address) noexcept {
  const size_t window = window_of(address);
  if (window >= kWindows) return nullptr;
  // Acquire: the leaf's pages were there before its offset.
  const intptr_t offset = address_directory.leaf_offsets[window].load(std::memory_order_acquire);
  return offset == 0 ? nullptr : leaf_at_offset(offset);
}

bool reserve_leaf() noexcept {
  if (spare_leaf.load(std::memory_order_relaxed) != nullptr) return true;
  void* const fresh = os::map_pages(sizeof(AddressLeaf));
  if (fresh == nullptr) return false;
  void* none = nullptr;
  if (!spare_leaf.compare_exchange_strong(none, fresh, std::memory_order_acq_rel)) {
    os::unmap_pages(fresh, sizeof(AddressLeaf));
  }
  return true;
}

bool make_leaves(const void* begin, size_t bytes) noexcept {
  const auto first = reinterpret_cast<uintptr_t>(begin);
  const size_t last_window = (first + bytes - 1) >> kWindowShift;
  if (last_window >= kWindows) return false;
  for (size_t window = first >> kWindowShift; window <= last_window; ++window) {
    std::atomic<intptr_t>& entry = address_directory.leaf_offsets[window];
    if (entry.load(std::memory_order_acquire) != 0) continue;
    void* fresh = spare_leaf.exchange(nullptr, std::memory_order_acq_rel);
    if (fresh == nullptr) fresh = os::map_pages(sizeof(AddressLeaf));
    if (fresh == nullptr) return false;
    intptr_t none = 0;
    const intptr_t offset =
        reinterpret_cast<intptr_t>(fresh) - reinterpret_cast<intptr_t>(address_directory.no_leaf);
    // Release: see find_leaf(). Two threads may make one each.
    if (entry.compare_exchange_strong(none, offset, std::memory_order_acq_rel)) {
      leaves.fetch_add(1, std::memory_order_relaxed);
    } else {
      os::unmap_pages(fresh, sizeof(AddressLeaf));
    }
  }
  return true;
}

size_t leaf_bytes() noexcept {
  return leaves.load(std::memory_order_relaxed) * sizeof(AddressLeaf);
}

Region* region_at(const void* address) noexcept {
  AddressLeaf* const leaf = find_leaf(address);
  if (leaf == nullptr) return nullptr;
  // Acquire: the region's record was filled in before it was set here.
  return leaf->regions[region_index(address)].load(std::memory_order_acquire);
}

void set_region_at(const void* address, Region* region) noexcept {
  find_leaf(address)->regions[region_index(address)].store(region, std::memory_order_release);
}

HugeBlock& huge_block_at(const void* address) noexcept {
  return find_leaf(address)->huge[region_index(address)];
}

}  // namespace memlimit::heap
