/* See memory_file.h. */
#include "system/memory_file.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include <unistd.h>

#include "system/folder.h"
#include "system/procfs.h"
#include "system/text.h"

namespace memlimit {
namespace {

struct Search {
  std::string_view link; /* what the descriptor's link says */
  int fd = -1;
};

bool visit(const char* name, void* arg) {
  auto& search = *static_cast<Search*>(arg);
  char path[64];
  char link[128];
  TextWriter(path, sizeof path).put("/proc/self/fd/").put(name);
  const ssize_t length = readlink(path, link, sizeof link);
  if (length <= 0 || std::string_view(link, static_cast<size_t>(length)) != search.link) {
    return true;
  }
  std::string_view digits = name;
  search.fd = static_cast<int>(procfs::take_integer(&digits));
  return false;
}

}  // namespace

bool MemoryFile::find(const char* name) noexcept {
  os::ErrnoGuard guard;
  char link[128];
  TextWriter text(link, sizeof link);
  text.put("/memfd:").put(name).put(" (deleted)");
  Search search{{link, text.length()}};
  os::for_each_name("/proc/self/fd", visit, &search);
  if (search.fd < 0 || !os::file_id(search.fd, &id_)) return false;
  owner_ = os::process_id();
  fd_.store(search.fd, std::memory_order_release);
  return true;
}

int64_t MemoryFile::bytes() const noexcept {
  const int fd = fd_.load(std::memory_order_acquire);
  if (fd < 0 || owner_ != os::process_id()) return 0;
  return std::max<int64_t>(os::held_bytes(fd, id_), 0);
}

}  // namespace memlimit
