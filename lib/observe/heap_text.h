/* What the allocator holds, as text: the file `heap` of the statistics socket, in the shape of /proc/slabinfo.
 *
 * A table of size classes, then one of threads; each has a line that names its columns. Rows are handed over one at a
 * time, so that thousands of threads need no memory but the text's. Names and order of the columns are stable; columns
 * are only ever added, at the end.
 *
 * Refuses everything impure, as stats_text.h, and to know where the rows come from. Threads: a writer belongs to one.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "system/text.h"

namespace memlimit {

/** A size class, or what is beyond the classes. `kNone` is a figure that has no meaning for the row. */
struct HeapClassRow {
  enum class Kind : uint8_t {
    kBlocks, /* a size class: its spans are 64 KiB each, cut into blocks */
    kLarge,  /* blocks of up to 4 MiB: runs of slices of 64 KiB, which count as spans */
    kHuge,   /* blocks with a mapping of their own; `cached` are kept for the next request */
    kSlices, /* free slices of 64 KiB */
  };
  static constexpr int64_t kNone = -1;

  Kind kind;
  int64_t block_bytes;
  int64_t live;   /* blocks with the program */
  int64_t free;   /* blocks that any thread may take */
  int64_t cached; /* blocks that a thread keeps for its next allocations */
  int64_t spans;
  int64_t purged; /* pages of them that the kernel has taken back, or never gave */
  int64_t live_bytes;
};

/** A thread that keeps blocks for itself. */
struct HeapThreadRow {
  int64_t tid; /* 0: all that have ended, or keep none */
  int64_t
      held_bytes; /* taken from the spans less returned: negative for one that frees what others allocate */
  int64_t cached_bytes;

  int64_t live_bytes() const noexcept { return held_bytes - cached_bytes; }
};

/** Whoever wants the rows: classes come first, then threads, of which those without a tid come first. */
struct HeapVisitor {
  void* context;
  void (*class_row)(void* context, const HeapClassRow& row) noexcept;
  void (*thread_row)(void* context, const HeapThreadRow& row) noexcept;
};

class HeapText {
 public:
  /** Writes at most cap - 1 bytes and a NUL. */
  HeapText(char* buffer, size_t cap) noexcept;

  void add(const HeapClassRow& row) noexcept;
  void add(const HeapThreadRow& row) noexcept;

  /** Hands its own add() functions over. */
  HeapVisitor visitor() noexcept;

  /** Ends the text: where not all threads had room, a last line sums the others up. Returns its length. */
  size_t finish() noexcept;

 private:
  void begin_threads() noexcept;
  void put_thread(HeapThreadRow row) noexcept;

  TextWriter out_;
  size_t cap_;
  bool in_threads_ = false;
  int64_t left_out_ = 0;
  HeapThreadRow rest_{}; /* sums of those */
};

}  // namespace memlimit
