/* See next_function.h. An indirect function is left to the loader. */
#include "next_function.h"

#include <dlfcn.h>
#include <link.h>

#include "runtimes/elf_image.h"

namespace memlimit {
namespace {

/* Any address in our own image. */
constinit const char self = 0;

struct Search {
  NextSymbol* const* symbols;
  size_t count;
  bool behind_ours = false;
};

int look_in(dl_phdr_info* info, size_t, void* arg) {
  auto& search = *static_cast<Search*>(arg);
  runtimes::ElfImage image;
  if (!image.open(*info)) return 0;
  if (!search.behind_ours) {
    search.behind_ours = image.contains(&self);
    return 0;
  }
  for (size_t i = 0; i < search.count; ++i) {
    NextSymbol& symbol = *search.symbols[i];
    if (symbol.address == nullptr) symbol.address = image.symbol(symbol.name);
  }
  return 0;
}

}  // namespace

void NextSymbol::find() noexcept { address = dlsym(RTLD_NEXT, name); }

void find_next_symbols(NextSymbol* const* symbols, size_t count) noexcept {
  Search search{symbols, count};
  dl_iterate_phdr(look_in, &search);
  for (size_t i = 0; i < count; ++i) {
    if (symbols[i]->address == nullptr) symbols[i]->find();
  }
}

}  // namespace memlimit
