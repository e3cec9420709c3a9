/* Names in a loaded program or library, looked up in its own tables.
 *
 * Answers for: finding an exported symbol of one image, whether or not the loader would find it by name
 * from here (RTLD_LOCAL libraries, other versions of it elsewhere). Refuses to load, to resolve an
 * indirect function, and to take the loader's lock: it reads what the loader has mapped.
 * Threads: any, as long as the image stays loaded.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include <link.h>

namespace memlimit::runtimes {

/** The GNU hash of a symbol's name: as in glibc's elf/dl-lookup.c. */
constexpr uint32_t gnu_hash_of(const char* name) noexcept {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

/** A symbol that is looked for in every image of a program: its hash is made by the compiler. */
struct HashedName {
  const char* text;
  uint32_t gnu_hash;
  constexpr HashedName(const char* name) noexcept : text(name), gnu_hash(gnu_hash_of(name)) {}
};

class ElfImage {
 public:
  ElfImage() noexcept = default;

  /** Takes note of where the image's tables are. False: it has no symbols that can be looked up. The
   *  name is pointed to, not copied. Allocates nothing. */
  bool open(const dl_phdr_info& info) noexcept;

  /** The address of a defined function or variable that others may use; nullptr when there is none. */
  void* symbol(const char* name) const noexcept;

  /** How many bytes the image says the symbol has; 0 when there is none. */
  size_t symbol_bytes(const char* name) const noexcept;

  /** The same of a name whose hash is known, at a fifth of the cost where the image has no such symbol. */
  void* symbol(const HashedName& name) const noexcept;

  /** symbol() as a pointer to a function. */
  template <typename Function>
  bool find(const char* name, Function* out) const noexcept {
    *out = reinterpret_cast<Function>(symbol(name));
    return *out != nullptr;
  }

  /** Whether the address lies in one of its segments. */
  bool contains(const void* address) const noexcept;

  /** The file as the loader names it; "" for the program itself. */
  const char* path() const noexcept { return path_; }

  /** Whether a library that another image asks for under this name is this one. */
  bool answers_to(const char* needed) const noexcept;

  /** The index-th library that it is linked with, as it names it; nullptr: it has no more. */
  const char* needed(size_t index) const noexcept;

  /** From its first segment to its last one. */
  uintptr_t begin() const noexcept;
  uintptr_t end() const noexcept;

 private:
  const ElfW(Sym) * lookup(const char* name) const noexcept;
  const ElfW(Sym) * by_gnu_hash(const char* name, uint32_t hash) const noexcept;
  const ElfW(Sym) * by_sysv_hash(const char* name) const noexcept;
  bool matches(const ElfW(Sym) & symbol, const char* name) const noexcept;

  uintptr_t base_ = 0;
  const char* path_ = "";
  const ElfW(Phdr) * segments_ = nullptr;
  size_t segment_count_ = 0;
  const ElfW(Dyn) * dynamic_ = nullptr;
  const ElfW(Sym) * symbols_ = nullptr;
  const char* strings_ = nullptr;
  const uint32_t* gnu_hash_ = nullptr;
  const uint32_t* sysv_hash_ = nullptr;
};

/** Finds the loaded image that contains the address. Takes the loader's list lock for a moment: not from
 *  inside malloc. */
bool image_of(const void* address, ElfImage* image) noexcept;

}  // namespace memlimit::runtimes
