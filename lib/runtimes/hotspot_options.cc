/* See hotspot_options.h. */
#include "runtimes/hotspot_options.h"

#include <cstring>

namespace memlimit::runtimes {
namespace {

/* The VM's name for an option's type. */
constexpr const char* kOption = "JVMFlag";

/* HotSpot has some 1,500 options, and 800 entries in its tables: what does not end is no table. */
constexpr size_t kMostEntries = 20'000;
constexpr uint64_t kWidestEntry = 4096;

/* JVMFlagOrigin, in the lowest bits of the flags: by default, and by the VM's own choice. */
constexpr unsigned kOriginMask = 15;
constexpr unsigned kByDefault = 0;
constexpr unsigned kErgonomic = 5;

template <typename T>
T at(const char* address) noexcept {
  T value;
  memcpy(&value, address, sizeof value);
  return value;
}

bool read_number(const ElfImage& image, const char* name, uint64_t* out) noexcept {
  const void* const variable = image.symbol(name);
  if (variable == nullptr) return false;
  *out = at<uint64_t>(static_cast<const char*>(variable));
  return *out < kWidestEntry;
}

bool read_pointer(const ElfImage& image, const char* name, const char** out) noexcept {
  const void* const variable = image.symbol(name);
  if (variable == nullptr) return false;
  *out = at<const char*>(static_cast<const char*>(variable));
  return *out != nullptr;
}

bool is(const char* text, const char* expected) noexcept {
  return text != nullptr && strcmp(text, expected) == 0;
}

/* The entry of one of the type's fields; nullptr. */
const char* field_of(const HotspotTables& tables, const char* field) noexcept {
  const char* entry = tables.structs;
  for (size_t i = 0; i < kMostEntries; ++i, entry += tables.struct_stride) {
    const auto* const type = at<const char*>(entry + tables.struct_type);
    if (type == nullptr) break;
    if (is(type, kOption) && is(at<const char*>(entry + tables.struct_field), field)) return entry;
  }
  return nullptr;
}

bool offset_of(const HotspotTables& tables, const char* field, uint64_t* out) noexcept {
  const char* const entry = field_of(tables, field);
  if (entry == nullptr) return false;
  *out = at<uint64_t>(entry + tables.struct_offset);
  return *out < kWidestEntry;
}

template <typename T>
bool address_of(const HotspotTables& tables, const char* field, T** out) noexcept {
  const char* const entry = field_of(tables, field);
  if (entry == nullptr) return false;
  *out = at<T*>(entry + tables.struct_address);
  return *out != nullptr;
}

uint64_t size_of_option(const HotspotTables& tables) noexcept {
  const char* entry = tables.types;
  for (size_t i = 0; i < kMostEntries; ++i, entry += tables.type_stride) {
    const auto* const name = at<const char*>(entry + tables.type_name);
    if (name == nullptr) break;
    if (is(name, kOption)) return at<uint64_t>(entry + tables.type_size);
  }
  return 0;
}

}  // namespace

bool read_tables(const ElfImage& image, HotspotTables* out) noexcept {
  return read_pointer(image, "gHotSpotVMStructs", &out->structs) &&
         read_number(image, "gHotSpotVMStructEntryArrayStride", &out->struct_stride) &&
         read_number(image, "gHotSpotVMStructEntryTypeNameOffset", &out->struct_type) &&
         read_number(image, "gHotSpotVMStructEntryFieldNameOffset", &out->struct_field) &&
         read_number(image, "gHotSpotVMStructEntryOffsetOffset", &out->struct_offset) &&
         read_number(image, "gHotSpotVMStructEntryAddressOffset", &out->struct_address) &&
         read_pointer(image, "gHotSpotVMTypes", &out->types) &&
         read_number(image, "gHotSpotVMTypeEntryArrayStride", &out->type_stride) &&
         read_number(image, "gHotSpotVMTypeEntryTypeNameOffset", &out->type_name) &&
         read_number(image, "gHotSpotVMTypeEntrySizeOffset", &out->type_size);
}

bool HotspotOptions::open(const HotspotTables& tables) noexcept {
  if (tables.struct_stride == 0 || tables.type_stride == 0) return false;
  stride_ = size_of_option(tables);
  return stride_ > 0 && stride_ < kWidestEntry && address_of(tables, "flags", &list_) &&
         address_of(tables, "numFlags", &count_) && offset_of(tables, "_name", &name_) &&
         offset_of(tables, "_addr", &value_) && offset_of(tables, "_flags", &origin_);
}

const char* HotspotOptions::entry(const char* name) const noexcept {
  if (list_ == nullptr || *list_ == nullptr) return nullptr;
  const char* entry = *list_;
  for (size_t i = 0; i < *count_ && i < kMostEntries; ++i, entry += stride_) {
    if (is(at<const char*>(entry + name_), name)) return entry;
  }
  return nullptr;
}

void* HotspotOptions::find(const char* name) const noexcept {
  const char* const found = entry(name);
  return found != nullptr ? at<void*>(found + value_) : nullptr;
}

bool HotspotOptions::is_on(const char* name) const noexcept {
  const void* const value = find(name);
  return value != nullptr && *static_cast<const volatile uint8_t*>(value) != 0;
}

uint64_t HotspotOptions::size_of(const char* name) const noexcept {
  const void* const value = find(name);
  return value != nullptr ? *static_cast<const volatile uint64_t*>(value) : 0;
}

bool HotspotOptions::is_users(const char* name) const noexcept {
  const char* const found = entry(name);
  if (found == nullptr) return false;
  const unsigned origin = at<unsigned>(found + origin_) & kOriginMask;
  return origin != kByDefault && origin != kErgonomic;
}

}  // namespace memlimit::runtimes
