/* The list of adapters; a place in it is the adapter's number in events. */
#pragma once

#include <cstddef>

#include "runtimes/adapter.h"

namespace memlimit::runtimes {

inline constexpr const Adapter* kAdapters[] = {&kCPython, &kRuby, &kV8, &kJvm, &kPhp, &kBeam};
inline constexpr size_t kAdapterCount = sizeof kAdapters / sizeof kAdapters[0];

}  // namespace memlimit::runtimes
