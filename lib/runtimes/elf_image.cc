/* See elf_image.h. The tables: System V ABI, chapter 5, and the GNU hash section as binutils writes it. */
#include "runtimes/elf_image.h"

#include <algorithm>
#include <cstring>

namespace memlimit::runtimes {
namespace {

uint32_t sysv_hash_of(const char* name) noexcept {
  uint32_t hash = 0;
  for (; *name != '\0'; ++name) {
    hash = (hash << 4) + static_cast<unsigned char>(*name);
    const uint32_t high = hash & 0xf0000000;
    hash = (hash ^ high >> 24) & ~high;
  }
  return hash;
}

}  // namespace

bool ElfImage::open(const dl_phdr_info& info) noexcept {
  *this = ElfImage();
  base_ = info.dlpi_addr;
  path_ = info.dlpi_name != nullptr ? info.dlpi_name : "";
  segments_ = info.dlpi_phdr;
  segment_count_ = info.dlpi_phnum;
  const ElfW(Dyn)* dynamic = nullptr;
  for (size_t i = 0; i < segment_count_; ++i) {
    if (segments_[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(base_ + segments_[i].p_vaddr);
    }
  }
  if (dynamic == nullptr) return false;
  dynamic_ = dynamic;
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    // glibc turns these into addresses when it loads the image; the kernel's vDSO keeps offsets.
    uintptr_t address = dynamic->d_un.d_ptr;
    if (address < base_) address += base_;
    switch (dynamic->d_tag) {
      case DT_SYMTAB:
        symbols_ = reinterpret_cast<const ElfW(Sym)*>(address);
        break;
      case DT_STRTAB:
        strings_ = reinterpret_cast<const char*>(address);
        break;
      case DT_GNU_HASH:
        gnu_hash_ = reinterpret_cast<const uint32_t*>(address);
        break;
      case DT_HASH:
        sysv_hash_ = reinterpret_cast<const uint32_t*>(address);
        break;
      default:
        break;
    }
  }
  return symbols_ != nullptr && strings_ != nullptr &&
         (gnu_hash_ != nullptr || sysv_hash_ != nullptr);
}

bool ElfImage::matches(const ElfW(Sym) & symbol, const char* name) const noexcept {
  const unsigned type = ELF64_ST_TYPE(symbol.st_info);
  const unsigned binding = ELF64_ST_BIND(symbol.st_info);
  if (symbol.st_shndx == SHN_UNDEF || symbol.st_value == 0) return false;
  if (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE) return false;
  if (binding != STB_GLOBAL && binding != STB_WEAK) return false;
  return strcmp(strings_ + symbol.st_name, name) == 0;
}

const ElfW(Sym) * ElfImage::by_gnu_hash(const char* name, uint32_t hash) const noexcept {
  constexpr uint32_t kWordBits = 8 * sizeof(ElfW(Addr));
  const uint32_t bucket_count = gnu_hash_[0];
  const uint32_t first_symbol = gnu_hash_[1];
  const uint32_t bloom_words = gnu_hash_[2];
  const uint32_t bloom_shift = gnu_hash_[3];
  if (bucket_count == 0 || bloom_words == 0) return nullptr;
  const auto* const bloom = reinterpret_cast<const ElfW(Addr)*>(gnu_hash_ + 4);
  const auto* const buckets = reinterpret_cast<const uint32_t*>(bloom + bloom_words);
  const uint32_t* const chains = buckets + bucket_count;

  const ElfW(Addr) word = bloom[hash / kWordBits % bloom_words];
  const ElfW(Addr) one = 1;
  const ElfW(Addr) bits = one << hash % kWordBits | one << (hash >> bloom_shift) % kWordBits;
  if ((word & bits) != bits) return nullptr;
  uint32_t index = buckets[hash % bucket_count];
  if (index < first_symbol) return nullptr;
  for (;; ++index) {
    const uint32_t chain = chains[index - first_symbol];
    // The lowest bit of a link says that it is the last one.
    if ((chain | 1) == (hash | 1) && matches(symbols_[index], name)) return &symbols_[index];
    if ((chain & 1) != 0) return nullptr;
  }
}

const ElfW(Sym) * ElfImage::by_sysv_hash(const char* name) const noexcept {
  const uint32_t bucket_count = sysv_hash_[0];
  if (bucket_count == 0) return nullptr;
  const uint32_t* const buckets = sysv_hash_ + 2;
  const uint32_t* const chains = buckets + bucket_count;
  for (uint32_t index = buckets[sysv_hash_of(name) % bucket_count]; index != STN_UNDEF;
       index = chains[index]) {
    if (matches(symbols_[index], name)) return &symbols_[index];
  }
  return nullptr;
}

const ElfW(Sym) * ElfImage::lookup(const char* name) const noexcept {
  if (gnu_hash_ != nullptr) return by_gnu_hash(name, gnu_hash_of(name));
  return sysv_hash_ != nullptr ? by_sysv_hash(name) : nullptr;
}

void* ElfImage::symbol(const char* name) const noexcept {
  const ElfW(Sym)* const found = lookup(name);
  return found == nullptr ? nullptr : reinterpret_cast<void*>(base_ + found->st_value);
}

void* ElfImage::symbol(const HashedName& name) const noexcept {
  if (gnu_hash_ == nullptr) return symbol(name.text);
  const ElfW(Sym)* const found = by_gnu_hash(name.text, name.gnu_hash);
  return found == nullptr ? nullptr : reinterpret_cast<void*>(base_ + found->st_value);
}

size_t ElfImage::symbol_bytes(const char* name) const noexcept {
  const ElfW(Sym)* const found = lookup(name);
  return found == nullptr ? 0 : found->st_size;
}

bool ElfImage::contains(const void* address) const noexcept {
  const auto target = reinterpret_cast<uintptr_t>(address);
  for (size_t i = 0; i < segment_count_; ++i) {
    const uintptr_t begin = base_ + segments_[i].p_vaddr;
    if (segments_[i].p_type == PT_LOAD && target >= begin &&
        target - begin < segments_[i].p_memsz) {
      return true;
    }
  }
  return false;
}

uintptr_t ElfImage::begin() const noexcept {
  uintptr_t first = UINTPTR_MAX;
  for (size_t i = 0; i < segment_count_; ++i) {
    if (segments_[i].p_type != PT_LOAD) continue;
    first = std::min<uintptr_t>(first, base_ + segments_[i].p_vaddr);
  }
  return first;
}

uintptr_t ElfImage::end() const noexcept {
  uintptr_t last = 0;
  for (size_t i = 0; i < segment_count_; ++i) {
    if (segments_[i].p_type != PT_LOAD) continue;
    last = std::max<uintptr_t>(last, base_ + segments_[i].p_vaddr + segments_[i].p_memsz);
  }
  return last;
}

bool ElfImage::answers_to(const char* needed) const noexcept {
  for (const ElfW(Dyn)* entry = dynamic_; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_SONAME) return strcmp(strings_ + entry->d_un.d_val, needed) == 0;
  }
  // Without a name of its own it goes by its file's.
  const char* const slash = strrchr(path_, '/');
  return strcmp(path_, needed) == 0 || (slash != nullptr && strcmp(slash + 1, needed) == 0);
}

const char* ElfImage::needed(size_t index) const noexcept {
  for (const ElfW(Dyn)* entry = dynamic_; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_NEEDED && index-- == 0) return strings_ + entry->d_un.d_val;
  }
  return nullptr;
}

bool image_of(const void* address, ElfImage* image) noexcept {
  struct Search {
    const void* address;
    ElfImage* image;
  } search{address, image};
  return dl_iterate_phdr(
             [](dl_phdr_info* info, size_t, void* arg) {
               auto& wanted = *static_cast<Search*>(arg);
               return wanted.image->open(*info) && wanted.image->contains(wanted.address) ? 1 : 0;
             },
             &search) == 1;
}

}  // namespace memlimit::runtimes
