/* The ways in which mallctl answers, of which the table of names (jemalloc_nodes.cc) is made: a constant, a setting, a
 * figure of the heap, of an arena or a bin, a deed.
 *
 * Each is an Answer: a request, and the MIB with the indices. Threads: any, outside malloc.
 */
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "heap/figures.h"
#include "heap/size_classes.h"
#include "jemalloc_figures.h"
#include "jemalloc_request.h"

namespace memlimit::jemalloc {

/** Answers one name: a MIB, of which only indices count. Returns 0 or an error number. */
using Answer = int (*)(const Request& request, const size_t* mib) noexcept;

namespace answers {

using Mib = const size_t*;

// --- constants ---

/** Characters that a template can be made with. */
template <size_t kBytes>
struct Text {
  char characters[kBytes];
  constexpr Text(const char (&text)[kBytes]) noexcept { std::copy_n(text, kBytes, characters); }
};

template <Text kText>
int text(const Request& request, Mib) noexcept {
  return request.answer<const char*>(kText.characters);
}

template <auto kValue>
int constant(const Request& request, Mib) noexcept {
  return request.answer(kValue);
}

/** Off for good: writing that again is no error, as in a jemalloc that could. */
int stays_off(const Request& request, Mib mib) noexcept;

// --- settings: kept, told back, and without effect ---

extern std::atomic<bool> background_thread;
extern std::atomic<size_t> background_threads;
extern std::atomic<ssize_t> dirty_decay_ms, muzzy_decay_ms;

template <auto* kSetting>
int setting(const Request& request, Mib) noexcept {
  return request.exchange(*kSetting);
}

template <auto* kSetting>
int value_of(const Request& request, Mib) noexcept {
  return request.answer(kSetting->load(std::memory_order_relaxed));
}

/** -1 is never. */
template <auto* kSetting>
int decay(const Request& request, Mib) noexcept {
  ssize_t ms = 0;
  if (const int error = request.write(&ms)) return error;
  return ms < -1 ? EFAULT : request.exchange(*kSetting);
}

// --- figures of the heap, of the moment ---

/** By a walk over the heap. */
template <size_t (*kOf)(const HeapReport&) noexcept>
int sum(const Request& request, Mib) noexcept {
  return request.answer(kOf(heap_report()));
}

template <size_t HeapReport::*kField>
size_t field(const HeapReport& now) noexcept {
  return now.*kField;
}

/** What is asked most, and needs no walk. */
int allocated(const Request& request, Mib mib) noexcept;

/** Of the calling thread. */
template <uint64_t heap::OwnFigures::*kField>
int own(const Request& request, Mib) noexcept {
  return request.answer(heap::figures::own().*kField);
}

// --- figures of arenas and bins, of the epoch ---

/** What is the same for each arena that exists, where the MIB has the arena at that place. */
template <size_t kPlace, Answer kAnswer>
int with_arena(const Request& request, Mib mib) noexcept {
  return arenas::exist(mib[kPlace]) ? kAnswer(request, mib) : ENOENT;
}

template <auto kOf>
int arena(const Request& request, Mib mib) noexcept {
  if (!arenas::exist(mib[2])) return ENOENT;
  return request.answer(kOf(arenas::report(mib[2])));
}

template <size_t (*kOf)(const HeapReport&) noexcept, size_t kUnitBytes = 1>
size_t in_sums(const ArenaReport& report) noexcept {
  return kOf(report.sums) / kUnitBytes;
}

/** Of all bins. */
template <auto kOf>
auto in_small(const ArenaReport& report) noexcept {
  decltype(kOf(report.classes[0])) all = 0;
  for (unsigned i = 1; i <= heap::kSmallClasses; ++i) all += kOf(report.classes[i]);
  return all;
}

size_t large_bytes(const ArenaReport& report) noexcept;
unsigned threads(const ArenaReport& report) noexcept;
uint64_t purges(const ArenaReport& report) noexcept;
uint64_t purged_pages(const ArenaReport& report) noexcept;

/** A bin is a class of small blocks; the first is bin 0. */
template <auto kOf>
int arena_bin(const Request& request, Mib mib) noexcept {
  if (!arenas::exist(mib[2]) || mib[4] >= heap::kSmallClasses) return ENOENT;
  return request.answer(kOf(arenas::report(mib[2]).classes[mib[4] + 1]));
}

size_t live_bytes(const heap::ClassFigures& bin) noexcept;
size_t live_blocks(const heap::ClassFigures& bin) noexcept;
uint64_t allocated_blocks(const heap::ClassFigures& bin) noexcept;
uint64_t freed_blocks(const heap::ClassFigures& bin) noexcept;
uint64_t uncounted(const heap::ClassFigures& bin) noexcept;

/** Spans by the pages that they hold, rounded up. Programs take the places in slabs less the blocks in use for what is
 *  lost to fragmentation, and pages that a purge took are not. */
size_t slabs(const heap::ClassFigures& bin) noexcept;

/** What a bin is, whatever lies in it. */
template <typename T, auto kOf>
int bin(const Request& request, Mib mib) noexcept {
  if (mib[2] >= heap::kSmallClasses) return ENOENT;
  return request.answer(static_cast<T>(kOf(heap::kClasses[mib[2] + 1])));
}

// --- deeds ---

/** Takes nothing and tells nothing. */
template <void (*kAct)() noexcept>
int act(const Request& request, Mib) noexcept {
  if (request.reads() || request.writes()) return EPERM;
  kAct();
  return 0;
}

void purge() noexcept;

/** A write begins an epoch. */
int epoch(const Request& request, Mib mib) noexcept;

/** There is one heap: whatever arena a thread chooses, it is in the first. */
int thread_arena(const Request& request, Mib mib) noexcept;
int thread_cache(const Request& request, Mib mib) noexcept;

/** MALLOCX_TCACHE() changes nothing, so one number serves all. */
int create_cache(const Request& request, Mib mib) noexcept;
int give_up_cache(const Request& request, Mib mib) noexcept;

int count_arenas(const Request& request, Mib mib) noexcept;

/** Its blocks lie in the first, but its number is good in every other question. Memory of the program's own is what it
 *  brings hooks for, and cannot have. */
int create_arena(const Request& request, Mib mib) noexcept;

/** All blocks of an arena at once: nobody knows which they are. As jemalloc for those that it made itself. */
int end_arena(const Request& request, Mib mib) noexcept;

/** The arena of a block. */
int find_arena(const Request& request, Mib mib) noexcept;

}  // namespace answers
}  // namespace memlimit::jemalloc
