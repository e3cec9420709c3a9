/* See folder.h. */
#include "system/folder.h"

#include <cstdint>

#include <sys/syscall.h>
#include <unistd.h>

#include "system/os.h"

namespace memlimit::os {

void for_each_name(int folder, bool (*visit)(const char* name, void* arg), void* arg) noexcept {
  struct Entry { /* linux_dirent64 */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[1];
  };
  constexpr int kMostReads = 1024;
  ErrnoGuard guard;
  alignas(Entry) char buffer[4096];
  for (int reads = 0; reads < kMostReads; ++reads) {
    const long got = syscall(SYS_getdents64, folder, buffer, sizeof buffer);
    if (got <= 0) return;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      if (!visit(entry->name, arg)) return;
      at += entry->length;
    }
  }
}

void for_each_name(const char* path, bool (*visit)(const char* name, void* arg),
                   void* arg) noexcept {
  const int folder = open_read(path);
  if (folder < 0) return;
  for_each_name(folder, visit, arg);
  close_file(folder);
}

}  // namespace memlimit::os
