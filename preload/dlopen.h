/* How often a library has been loaded, and who wants to know of it; see dlopen.cc. */
#pragma once

#include <atomic>
#include <cstdint>

extern "C" {
/** Calls of dlopen and dlmopen, counted when they begin. */
extern __attribute__((visibility("hidden"))) std::atomic<uint32_t> memlimit_loader_calls;

/** Called with the caller's return address when a call begins, unless it is null. */
extern __attribute__((visibility("hidden"))) std::atomic<void (*)(const void* caller)>
    memlimit_loader_listener;
}
