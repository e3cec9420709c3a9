/* See socket_kin.h. */
#include "observe/socket_kin.h"

#include <unistd.h>

#include "system/os.h"
#include "system/procfs.h"

namespace memlimit {

namespace {

bool is_ancestor(int ancestor, int pid) noexcept {
  // Deeper than trees of processes are; and processes that end meanwhile make no circle.
  constexpr int kMostGenerations = 64;
  int64_t parent = pid;
  for (int i = 0; i < kMostGenerations; ++i) {
    parent = procfs::parent_of(static_cast<int>(parent));
    if (parent <= 0) break;
    if (parent == ancestor) return true;
  }
  return false;
}

}  // namespace

Kin kin_of(int pid) noexcept {
  const int own = os::process_id();
  if (pid == own) return Kin::kStranger; /* the program's own socket */
  if (is_ancestor(pid, own)) {
    const int64_t bytes = procfs::footprint_bytes_of(pid);
    return bytes >= 0 && bytes < kWrapperMaxBytes ? Kin::kWrapper : Kin::kAncestor;
  }
  if (is_ancestor(own, pid)) return Kin::kDescendant;
  return getpgid(pid) == getpgid(0) ? Kin::kSibling : Kin::kStranger;
}

}  // namespace memlimit
