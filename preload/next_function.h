/* Functions of libc's that ours of the same name stand before. */
#pragma once

#include <cstddef>

#include "system/attributes.h"

namespace memlimit {

struct NextSymbol {
  const char* name;
  void* address = nullptr;

  /** By the loader, whose lock it takes. */
  void find() noexcept;
};

/** All of them at once, in the images' own tables: as dlsym(RTLD_NEXT) would, for a tenth of the instructions. From
 *  the constructor, when nothing is loaded but what the program starts with. */
void find_next_symbols(NextSymbol* const* symbols, size_t count) noexcept;

/** Before find_next_symbols() it is looked up by whoever calls. */
template <typename F>
struct NextFunction;
template <typename Result, typename... Arguments>
struct NextFunction<Result(Arguments...)> {
  using Function = Result (*)(Arguments...);
  NextSymbol symbol;

  Function function() const noexcept { return reinterpret_cast<Function>(symbol.address); }
  MEMLIMIT_ALWAYS_INLINE Result operator()(Arguments... arguments) {
    if (MEMLIMIT_UNLIKELY(symbol.address == nullptr)) symbol.find();
    return function()(arguments...);
  }
};

}  // namespace memlimit
