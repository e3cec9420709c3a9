/* See live_samples.h. */
#include "profile/live_samples.h"

#include "system/os.h"

namespace memlimit::profile {
namespace {

constexpr unsigned shift_of(unsigned first_shift, unsigned table) noexcept {
  return first_shift + 2 * table;
}

}  // namespace

LiveSamples::Slot* LiveSamples::bucket(unsigned table, Slot* slots,
                                       uintptr_t block) const noexcept {
  const uint64_t hash = (block >> 4) * 0x9e3779b97f4a7c15;
  return slots + (hash >> (64 - shift_of(kFirstTableShift, table))) * kSlotsPerBucket;
}

LiveSamples::Slot* LiveSamples::table(unsigned index) noexcept {
  Slot* slots = tables_[index].load(std::memory_order_acquire);
  if (slots != nullptr) return slots;
  const size_t bytes = (kSlotsPerBucket << shift_of(kFirstTableShift, index)) * sizeof(Slot);
  auto* const fresh = static_cast<Slot*>(os::map_pages(bytes));
  if (fresh == nullptr) return nullptr;
  if (tables_[index].compare_exchange_strong(slots, fresh, std::memory_order_acq_rel)) return fresh;
  os::unmap_pages(fresh, bytes);
  return slots;
}

bool LiveSamples::insert(const void* block, const LiveSample& sample) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(block);
  for (unsigned i = 0; i < kTables; ++i) {
    Slot* const slots = table(i);
    if (slots == nullptr) return false;
    Slot* const begin = bucket(i, slots, address);
    for (Slot* slot = begin; slot != begin + kSlotsPerBucket; ++slot) {
      uintptr_t none = slot->block.load(std::memory_order_relaxed);
      // Acquire: whoever had the slot before has read what it needed.
      if (none != 0 ||
          !slot->block.compare_exchange_strong(none, address, std::memory_order_acquire))
        continue;
      slot->site = sample.site;
      slot->block_bytes = sample.block_bytes;
      slot->bytes = sample.bytes;
      count_.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

bool LiveSamples::remove(const void* block, LiveSample* out) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(block);
  for (unsigned i = 0; i < kTables; ++i) {
    Slot* const slots = tables_[i].load(std::memory_order_acquire);
    if (slots == nullptr) return false;
    Slot* const begin = bucket(i, slots, address);
    for (Slot* slot = begin; slot != begin + kSlotsPerBucket; ++slot) {
      if (slot->block.load(std::memory_order_relaxed) != address) continue;
      *out = {slot->site, slot->block_bytes, slot->bytes};
      slot->block.store(0, std::memory_order_release);
      count_.fetch_sub(1, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace memlimit::profile
