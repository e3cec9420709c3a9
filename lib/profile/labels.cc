/* See labels.h. */
#include "profile/labels.h"

#include <cstring>

#include "system/os.h"

namespace memlimit::profile {

struct Labels::Label {
  uint32_t next;
  uint32_t length;
  uint64_t hash;
  /* The text follows. */
  char* text() noexcept { return reinterpret_cast<char*>(this + 1); }
};

namespace {

/* FNV-1a (Fowler, Noll, Vo). */
uint64_t hash_of(std::string_view text) noexcept {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  return hash;
}

}  // namespace

bool Labels::open() noexcept {
  auto* const table = static_cast<char*>(os::map_pages(kTableBytes));
  if (table == nullptr) return false;
  used_.store(kHeads * sizeof(uint32_t), std::memory_order_relaxed);
  base_ = table;
  return true;
}

Labels::Label& Labels::at(uint32_t number) const noexcept {
  return *reinterpret_cast<Label*>(base_ + size_t{number} * kUnit);
}

uint32_t Labels::search(uint32_t from, uint32_t to, uint64_t hash,
                        std::string_view text) const noexcept {
  for (uint32_t number = from; number != to; number = at(number).next) {
    Label& label = at(number);
    if (label.hash == hash && label.length == text.size() &&
        memcmp(label.text(), text.data(), text.size()) == 0)
      return number;
  }
  return 0;
}

uintptr_t Labels::find_or_add(std::string_view text) noexcept {
  if (base_ == nullptr) return kFirst;
  text = text.substr(0, kMostTextBytes);
  const uint64_t hash = hash_of(text);
  std::atomic<uint32_t>& first = head(hash % kHeads);
  // Acquire: a label is filled in before it is seen.
  uint32_t seen = first.load(std::memory_order_acquire);
  if (const uint32_t found = search(seen, 0, hash, text); found != 0) return kFirst + found;
  const size_t bytes = (sizeof(Label) + text.size() + kUnit - 1) & ~(kUnit - 1);
  size_t offset = used_.load(std::memory_order_relaxed);
  do {
    if (offset + bytes > kTableBytes) return kFirst;
  } while (!used_.compare_exchange_weak(offset, offset + bytes, std::memory_order_relaxed));
  const auto number = static_cast<uint32_t>(offset / kUnit);
  Label& label = at(number);
  label.length = static_cast<uint32_t>(text.size());
  label.hash = hash;
  memcpy(label.text(), text.data(), text.size());
  uint32_t before = seen;
  do {
    // Another thread was faster, perhaps with the same text: then this room is lost.
    if (const uint32_t found = search(seen, before, hash, text); found != 0) return kFirst + found;
    before = seen;
    label.next = seen;
  } while (!first.compare_exchange_weak(seen, number, std::memory_order_release,
                                        std::memory_order_acquire));
  return kFirst + number;
}

std::string_view Labels::text(uintptr_t address) const noexcept {
  if (!is_label(address) || base_ == nullptr) return {};
  if (address == kFirst) return "(function whose name had no room)";
  Label& label = at(static_cast<uint32_t>(address - kFirst));
  return {label.text(), label.length};
}

}  // namespace memlimit::profile
