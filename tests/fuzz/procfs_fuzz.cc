/* libFuzzer target for everything that is read from /proc and cgroup files: the parsers on any bytes,
 * and the look-up as a whole on a tree of files made from the input.
 *
 * The input's first byte picks a sound tree (v1 or v2, the group at the mount point or below it); then
 * come replacements for its files: a byte that picks the file, its content, a 0xff byte.
 */
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/cgroup.h"
#include "system/cgroup_formats.h"
#include "system/procfs.h"

namespace {

using namespace memlimit;

constexpr const char* kDirectories[] = {"proc", "proc/self", "c", "c/g"};

struct File {
  const char* path;
  const char* content; /* what a sound tree has there; null: nothing */
};

constexpr File kFiles[] = {
    {"proc/self/cgroup", nullptr}, /* as kMemberships says */
    {"proc/self/mountinfo",
     "9 1 0:1 / / rw - ext4 /dev/vda rw\n"
     "10 9 0:2 / /nowhere rw shared:1 - cgroup2 cgroup2 rw\n"},
    {"proc/meminfo", "MemTotal: 8127364 kB\nMemFree: 1 kB\n"},
    {"c/cgroup.procs", "1\n"},
    {"c/cgroup.controllers", "cpu memory pids\n"},
    {"c/memory.limit_in_bytes", "209715200\n"},
    {"c/memory.usage_in_bytes", "104857600\n"},
    {"c/memory.max", "209715200\n"},
    {"c/memory.high", "max\n"},
    {"c/memory.current", "104857600\n"},
    {"c/memory.stat",
     "inactive_file 4096\nhierarchical_memory_limit 209715200\ntotal_inactive_file 8192\n"},
    {"c/g/cgroup.procs", "1\n"},
    {"c/g/memory.limit_in_bytes", "943718400\n"},
    {"c/g/memory.usage_in_bytes", "52428800\n"},
    {"c/g/memory.max", "max\n"},
    {"c/g/memory.high", "943718400\n"},
    {"c/g/memory.current", "52428800\n"},
    {"c/g/memory.stat", "hierarchical_memory_limit 209715200\ninactive_file 4096\n"},
};

struct Layout {
  const char* membership;
  const char* mounts;
};

constexpr Layout kLayouts[] = {
    {"0::/g\n", "11 9 0:3 / /c rw - cgroup2 cgroup2 rw\n"},
    {"0::/\n", "11 9 0:3 / /c rw - cgroup2 cgroup2 rw\n"},
    {"3:cpu:/\n4:memory:/g\n0::/\n", "11 9 0:3 / /c rw - cgroup cgroup rw,memory\n"},
    {"4:memory:/x/g\n", "11 9 0:3 /x /c rw - cgroup cgroup rw,memory\n"},
    {"0::/\n", "11 9 0:3 /.. /c rw - cgroup2 cgroup2 rw\n"},
    {"4:memory:/g\n",
     "11 9 0:3 /g /c rw - cgroup cgroup rw,memory\n12 9 0:3 / /c rw - cgroup cgroup rw,memory\n"},
};

void check(bool held) {
  if (!held) abort();
}

/* The tree's directory, gone again when the process ends in peace. */
struct Root {
  char path[32] = "/dev/shm/memlimit-fuzz-XXXXXX";
  int fd = -1;

  Root() {
    if (mkdtemp(path) == nullptr) abort();
    fd = open(path, O_DIRECTORY);
    for (const char* directory : kDirectories) mkdirat(fd, directory, 0700);
  }
  ~Root() {
    for (const File& file : kFiles) unlinkat(fd, file.path, 0);
    for (size_t i = std::size(kDirectories); i > 0; --i) {
      unlinkat(fd, kDirectories[i - 1], AT_REMOVEDIR);
    }
    rmdir(path);
  }

  void write(const char* file, std::string_view content, std::string_view more) const {
    const int out = openat(fd, file, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    check(out >= 0);
    check(::write(out, content.data(), content.size()) >= 0);
    if (!more.empty()) check(::write(out, more.data(), more.size()) >= 0);
    close(out);
  }
};

void parse(std::string_view text) {
  const procfs::OwnMemory memory = procfs::parse_statm(text, 4096);
  check(memory.resident_bytes >= procfs::kUnknown);
  check(memory.writable_bytes >= procfs::kUnknown);
  check(procfs::parse_kb_line(text, "RssAnon:") >= procfs::kUnknown);
  std::string_view rest = text;
  check(procfs::take_integer(&rest) >= procfs::kUnknown && rest.size() <= text.size());
  char name[16];
  const size_t length = procfs::clean_name(text, name, sizeof name);
  check(length > 0 && length < sizeof name && name[length] == '\0');
  check(cgroup::parse_limit(text) >= cgroup::kMalformed);
  char path[64];
  check(cgroup::unescape(text, path, sizeof path) <= int64_t{sizeof path});
  cgroup::Membership member;
  if (cgroup::parse_membership(text, &member)) check(member.path.starts_with('/'));
  cgroup::Mount mount;
  if (!cgroup::parse_mount(text, &mount)) return;
  std::string_view below;
  if (cgroup::path_below(mount.root, mount.mount_point, &below)) {
    check(below.empty() || below.starts_with('/'));
  }
  cgroup::root_above(mount.root, mount.mount_point);
  cgroup::has_word(mount.super_options, "memory");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Root root;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  parse(rest);
  if (rest.empty()) return 0;
  const Layout& layout = kLayouts[static_cast<uint8_t>(rest.front()) % std::size(kLayouts)];
  rest.remove_prefix(1);
  for (const File& file : kFiles) {
    if (file.content != nullptr) root.write(file.path, file.content, {});
  }
  root.write(kFiles[0].path, layout.membership, {});
  root.write(kFiles[1].path, layout.mounts, kFiles[1].content);

  static MemoryGroup group;
  group.find(root.path);
  while (!rest.empty()) {
    const File& file = kFiles[static_cast<uint8_t>(rest.front()) % std::size(kFiles)];
    rest.remove_prefix(1);
    const size_t end = std::min(rest.find('\xff'), rest.size());
    root.write(file.path, {rest.data(), end}, {});
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  // Both the second look at what changed, and a first look at the damage.
  for (int look = 0; look < 2; ++look) {
    if (look == 0) {
      group.refresh();
    } else {
      group.find(root.path);
    }
    check(group.container_bytes() > 0);
    check(group.working_set_bytes(1, 0) >= -1);
    char path[kMaxGroupPath];
    check(group.limit_path(path, sizeof path) > 0);
    group.problem_path(path, sizeof path);
    group.watched_path(path, sizeof path);
    check(problem_text(group.problem()) != nullptr);
  }
  return 0;
}
