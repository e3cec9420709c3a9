/* Where the heap's memory comes from, and whom it tells: two tables of functions.
 *
 * The heap knows neither mimalloc nor interposition nor the engine. Whoever embeds it defines page_source_at_start and
 * heap_ops_at_start as constants, so that they are there for the first allocation, which comes before any constructor.
 * Without them regions come from mmap(2), and nobody is told.
 *
 * Threads: every function of both tables is called from any thread. None may allocate from this heap, but look().
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/attributes.h"

namespace memlimit::heap {

struct PageSource {
  /** Zero pages, or nullptr. Both arguments are multiples of 4 MiB. */
  void* (*map_region)(size_t bytes, size_t alignment) noexcept;
  void (*unmap_region)(void* address, size_t bytes) noexcept;

  /** Zero pages for one block; whole pages, aligned to at least a slice. Or nullptr. */
  void* (*map_huge)(size_t bytes, size_t alignment) noexcept;
  void (*unmap_huge)(void* address, size_t bytes) noexcept;

  /** The same block with another size, its content kept, new pages zero: at the same address, or elsewhere when it
   *  may move, aligned to a slice. nullptr: it cannot be done, and nothing has changed. */
  void* (*resize_huge)(void* address, size_t old_bytes, size_t new_bytes, bool may_move) noexcept;

  /** For a heap that begins small: zero pages at a multiple of 4 MiB, where nobody else is likely to take what follows; or
   *  nullptr. unmap_region() takes back as much as there is. A heap whose source has not these two begins with chunks. */
  void* (*begin_region)(size_t bytes) noexcept = nullptr;

  /** Zero pages at just this address. false: somebody has it, or there is no memory. */
  bool (*extend_region)(void* address, size_t bytes) noexcept = nullptr;
};

/** Pages straight from the kernel: for blocks of their own, which mremap(2) makes larger without a copy, and for regions
 *  when there is no other source. By the raw calls: mmap() is interposed, and would count them. */
namespace kernel_pages {

void* map(size_t bytes, size_t alignment) noexcept;
void unmap(void* address, size_t bytes) noexcept;
void* resize(void* address, size_t old_bytes, size_t new_bytes, bool may_move) noexcept;

/** As begin_region() and extend_region(): at lonely_address(), and at just this one. Nothing has changed when it cannot be
 *  done. */
void* begin(size_t bytes) noexcept;
bool map_at(void* address, size_t bytes) noexcept;

/** A random multiple of 4 MiB that nobody else looks for. Best in the GiB of address space below a program that the kernel
 *  has put anywhere: nothing grows to there, as brk() grows upwards and mappings begin at the stack, and the page tables
 *  of the upper levels are those of the program, which each fork() would copy twice otherwise. For a program of a fixed
 *  address (or 0) in 16 TiB of their own: the kernel gives what is far above, mimalloc asks for what is below 30 TiB, ZGC
 *  of a JVM for 4 to 48 and from 64 TiB on. Where user space does not reach so far the kernel takes another place. */
uintptr_t lonely_address(uintptr_t program, uint64_t random) noexcept;

}  // namespace kernel_pages

inline constexpr PageSource kKernelPages = {
    kernel_pages::map,    kernel_pages::unmap, kernel_pages::map,   kernel_pages::unmap,
    kernel_pages::resize, kernel_pages::begin, kernel_pages::map_at};

enum class Misuse : uint8_t {
  kDoubleFree,     /* the block is free already */
  kInvalidPointer, /* inside the heap's memory, but no block begins there */
};

/** What a thread has done since it last told. */
struct News {
  uint64_t taken_bytes;    /* from spans, slices and the source */
  uint64_t returned_bytes; /* to them */
  int64_t stacked_bytes;   /* by how much what lies in its stacks has changed */
};

struct HeapOps {
  /** A thread tells what it has done: before each look, and when it ends. For adding up, and nothing else. */
  void (*publish)(const News& news) noexcept;

  /** The thread looks up from its work, in a call that allocates a block of so many bytes, or in one that frees (0).
   *  Called with nothing of the heap's in a half-done state; may allocate, free and purge. */
  void (*look)(uint64_t allocated_bytes) noexcept;

  /** A pointer that is none of ours. */
  void (*foreign_free)(void* block) noexcept;
  size_t (*foreign_usable)(const void* block) noexcept;

  /** A call is about to return nullptr: where errno is set, at no cost to those that do not. */
  void (*out_of_memory)() noexcept;

  /** Has thread_exit() called when this thread ends; false when that cannot be arranged. */
  bool (*arm_thread_exit)() noexcept;

  /** A clock for the decay of free slices; nullptr: they do not decay by themselves. */
  int64_t (*now_ms)() noexcept;

  /** A block of so many bytes that was picked (sampling.h) begins its life; false: it is not to be told of again. The
   *  caller's frames are those of the allocation. May not allocate. nullptr: nothing is sampled. */
  bool (*sampled)(void* block, uint64_t block_bytes, uint64_t interval_bytes) noexcept = nullptr;

  /** Such a block is about to be freed; whether it was one: of large blocks all are asked about. */
  bool (*sample_freed)(void* block) noexcept = nullptr;
};

MEMLIMIT_HIDDEN extern const PageSource page_source_at_start __attribute__((weak));
MEMLIMIT_HIDDEN extern const HeapOps heap_ops_at_start __attribute__((weak));

/** Other tables from now on; nullptr: those of the start. Memory goes back to where it came from. For tests. */
void set_page_source(const PageSource* source) noexcept;
void set_heap_ops(const HeapOps* ops) noexcept;

const PageSource& page_source() noexcept;
const HeapOps& heap_ops() noexcept;

}  // namespace memlimit::heap
