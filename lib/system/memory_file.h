/* A file in memory (memfd_create(2)) that this process has open and maps as its heap.
 *
 * Answers for: how much memory it holds, however often it is mapped. The kernel's figures for the process do not tell: its
 * anonymous memory leaves such a file out, and its resident size counts each mapping. Refuses to open or close anything:
 * the descriptor is the program's, and what has come to be another file counts as nothing.
 * Threads: find() one at a time, bytes() any, inside malloc too; errno is kept.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "system/os.h"

namespace memlimit {

class MemoryFile {
 public:
  constexpr MemoryFile() noexcept = default;

  /** Looks for a descriptor of a memory file of this name, as it was given to memfd_create(). */
  bool find(const char* name) noexcept;

  /** What it holds now. 0: it was not found, or is not open any more, or this is a child of the process that found it. One
   *  or two system calls. */
  int64_t bytes() const noexcept;

 private:
  std::atomic<int> fd_{-1}; /* written last */
  int owner_ = 0;
  os::FileId id_;
};

}  // namespace memlimit
