/* How often a library has been loaded; see dlopen.cc. */
#pragma once

#include <atomic>
#include <cstdint>

extern "C" {
/** Calls of dlopen and dlmopen, counted when they begin. */
extern __attribute__((visibility("hidden"))) std::atomic<uint32_t> memlimit_loader_calls;
}
