/* See labels.h. */
#include "profile/labels.h"

#include <cstring>

namespace memlimit::profile {

struct Labels::Label {
  ChainLink link;
  uint32_t length;
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

bool Labels::open() noexcept { return chains_.open(kTableBytes); }

uintptr_t Labels::find_or_add(std::string_view text) noexcept {
  if (!chains_.is_open()) return kFirst;
  text = text.substr(0, kMostTextBytes);
  const auto same = [&](char* record) {
    auto& label = *reinterpret_cast<Label*>(record);
    return label.length == text.size() && memcmp(label.text(), text.data(), text.size()) == 0;
  };
  const auto fill = [&](char* record) {
    auto& label = *reinterpret_cast<Label*>(record);
    label.length = static_cast<uint32_t>(text.size());
    memcpy(label.text(), text.data(), text.size());
  };
  bool added = false;
  return kFirst +
         chains_.find_or_add(hash_of(text), sizeof(Label) + text.size(), same, fill, &added);
}

std::string_view Labels::text(uintptr_t address) const noexcept {
  if (!is_label(address) || !chains_.is_open()) return {};
  if (address == kFirst) return "(function whose name had no room)";
  auto& label = *reinterpret_cast<Label*>(chains_.at(static_cast<uint32_t>(address - kFirst)));
  return {label.text(), label.length};
}

}  // namespace memlimit::profile
