/* Why no round asks a runtime that is in the process. */
#pragma once

#include <cstdint>

namespace memlimit::runtimes::left_out {

enum class Why : uint8_t {
  kNone,
  kUnwanted,       /* MEMLIMIT_ADAPTERS does not name it */
  kNotNamed,       /* it is used only where MEMLIMIT_ADAPTERS names it */
  kUnknownVersion, /* its adapter does not know this one */
  kThreadSafe,     /* each of its threads has globals of its own, which the adapter does not know */
  kCompiledFunctions,   /* PHP's interrupts go wrong there */
  kNoAdapter,           /* nobody has found out how to ask it */
  kCollectionsDisabled, /* the program has asked its runtime to refuse */
};

}  // namespace memlimit::runtimes::left_out
