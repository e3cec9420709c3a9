/* What the tests of the heap share: tables for a test's length, threads that give their caches back, live bytes.
 * Threads: one at a time per object.
 */
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "heap/figures.h"
#include "heap/heap.h"
#include "heap/page_source.h"

namespace memlimit::test {

/** The heap tells these for as long as the object lives. */
class OpsScope {
 public:
  explicit OpsScope(const heap::HeapOps& ops) { heap::set_heap_ops(&ops); }
  ~OpsScope() { heap::set_heap_ops(nullptr); }
  OpsScope(const OpsScope&) = delete;
  OpsScope& operator=(const OpsScope&) = delete;
};

class SourceScope {
 public:
  explicit SourceScope(const heap::PageSource& source) { heap::set_page_source(&source); }
  ~SourceScope() { heap::set_page_source(nullptr); }
  SourceScope(const SourceScope&) = delete;
  SourceScope& operator=(const SourceScope&) = delete;
};

/** A table that tells nobody, to change what a test is about. Threads arm by hand: see on_thread(). */
constexpr heap::HeapOps quiet_ops() noexcept {
  return {[](const heap::News&) noexcept {},
          [](uint64_t) noexcept {},
          [](void*) noexcept {},
          [](const void*) noexcept { return size_t{0}; },
          []() noexcept {},
          []() noexcept { return true; },
          nullptr};
}

/** Starts a thread that gives its cache back at its end. */
template <typename Function>
std::thread on_thread(Function function) {
  return std::thread([function = std::move(function)]() mutable {
    function();
    heap::thread_exit();
  });
}

inline int64_t live_bytes() { return heap::figures::totals().live_bytes(); }

}  // namespace memlimit::test
