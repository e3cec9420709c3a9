/* The container's memory: recorded trees of real layouts, damaged trees, shares, and
 * live groups where the machine lets the test make some. */
#include "system/cgroup.h"
#include "pacing/pacer.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/recorded_tree.h"
#include "system/procfs.h"

using memlimit::fair_share;
using memlimit::GroupProblem;
using memlimit::LimitFile;
using memlimit::MemoryGroup;
using memlimit::test::read_tree;
using memlimit::test::read_trees;
using memlimit::test::RecordedTree;
using memlimit::test::TreeDir;
namespace fs = std::filesystem;

namespace {

const fs::path kTrees = fs::path(MEMLIMIT_TEST_DATA) / "cgroup";

const char* problem_key(GroupProblem problem) {
  switch (problem) {
    case GroupProblem::kNone:
      return "none";
    case GroupProblem::kNoMembership:
      return "no-membership";
    case GroupProblem::kNoController:
      return "no-controller";
    case GroupProblem::kNoMount:
      return "no-mount";
    case GroupProblem::kOutside:
      return "outside";
    case GroupProblem::kTooLong:
      return "too-long";
    case GroupProblem::kUnreadable:
      return "unreadable";
    case GroupProblem::kMalformed:
      return "malformed";
  }
  return "?";
}

std::string limit_path(const MemoryGroup& group) {
  char text[memlimit::kMaxGroupPath];
  return {text, group.limit_path(text, sizeof text)};
}

std::string watched_path(const MemoryGroup& group) {
  char text[memlimit::kMaxGroupPath];
  return {text, group.watched_path(text, sizeof text)};
}

std::string problem_path(const MemoryGroup& group) {
  char text[memlimit::kMaxGroupPath];
  return {text, group.problem_path(text, sizeof text)};
}

/* Never satisfied with an older figure. */
int64_t working_set(MemoryGroup& group) { return group.working_set_bytes(1, 0); }

constexpr int64_t kMiB = int64_t{1} << 20;

}  // namespace

TEST_CASE("cgroup: every recorded layout gives its limit, its place and its working set",
          "[cgroup]") {
  const std::vector<RecordedTree> trees = read_trees(kTrees);
  REQUIRE(trees.size() >= 40);
  for (const RecordedTree& tree : trees) {
    CAPTURE(tree.name);
    TreeDir root;
    root.lay_out(tree);
    MemoryGroup group;
    group.find(root.path().c_str());
    CHECK(std::to_string(group.container_bytes()) == tree.expect.at("bytes"));
    CHECK(limit_path(group) == tree.expect.at("limit"));
    const std::string watched = watched_path(group);
    CHECK((watched.empty() ? "-" : watched) == tree.expect.at("watched"));
    CHECK(std::to_string(working_set(group)) == tree.expect.at("working_set"));
    CHECK(problem_key(group.problem()) == tree.expect.at("problem"));
    CHECK(group.refresh() == false);
    CHECK(std::to_string(group.container_bytes()) == tree.expect.at("bytes"));
  }
}

TEST_CASE("cgroup: before anything is looked up, nothing is known", "[cgroup]") {
  MemoryGroup group;
  CHECK(group.container_bytes() == -1);
  CHECK(working_set(group) == -1);
  CHECK(group.last_working_set_bytes() == -1);
  CHECK(limit_path(group).empty());
  CHECK(group.refresh());  // membership is new, so the whole of it is looked up
  CHECK(group.container_bytes() > 0);
}

TEST_CASE("cgroup: a resized limit is noticed, in both directions", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  MemoryGroup group;
  group.find(root.path().c_str());
  root.write("/sys/fs/cgroup/memory.max", "1073741824\n");
  CHECK(group.refresh());
  CHECK(group.container_bytes() == 1024 * kMiB);
  root.write("/sys/fs/cgroup/memory.high", "209715200\n");
  CHECK(group.refresh());
  CHECK(group.container_bytes() == 200 * kMiB);
  CHECK(limit_path(group) == "/sys/fs/cgroup/memory.high");
  root.write("/sys/fs/cgroup/memory.high", "max\n");
  root.write("/sys/fs/cgroup/memory.max", "max\n");
  CHECK(group.refresh());
  CHECK(group.limit_file() == LimitFile::kPhysical);
  CHECK_FALSE(group.refresh());
}

TEST_CASE("cgroup: a move to another group is followed", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "nested-v1.tree"));
  MemoryGroup group;
  group.find(root.path().c_str());
  CHECK(group.container_bytes() == 200 * 1024 * 1024);
  const std::string other = "/sys/fs/cgroup/memory/other";
  root.write(other + "/cgroup.procs", "1\n");
  root.write(other + "/memory.limit_in_bytes", "104857600\n");
  root.write(other + "/memory.usage_in_bytes", "1000000\n");
  root.write(other + "/memory.stat",
             "hierarchical_memory_limit 104857600\ntotal_inactive_file 400000\n");
  root.write("/proc/self/cgroup", "5:memory:/other\n");
  CHECK(group.refresh());
  CHECK(group.container_bytes() == 100 * kMiB);
  CHECK(limit_path(group) == other + "/memory.limit_in_bytes");
  CHECK(working_set(group) == 600000);
}

TEST_CASE("cgroup: a limit that can no longer be read stays in force", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  MemoryGroup group;
  group.find(root.path().c_str());
  REQUIRE(group.container_bytes() == 512 * kMiB);

  SECTION("a directory in its place") {
    root.remove("/sys/fs/cgroup/memory.max");
    fs::create_directory(root.path() + "/sys/fs/cgroup/memory.max");
    CHECK_FALSE(group.refresh());
    CHECK(group.problem() == GroupProblem::kUnreadable);
    CHECK(problem_path(group) == "/sys/fs/cgroup/memory.max");
  }
  SECTION("a link onto itself") {
    root.remove("/sys/fs/cgroup/memory.max");
    fs::create_symlink("memory.max", root.path() + "/sys/fs/cgroup/memory.max");
    CHECK_FALSE(group.refresh());
    CHECK(group.problem() == GroupProblem::kUnreadable);
  }
  SECTION("text in it") {
    root.write("/sys/fs/cgroup/memory.max", "plenty\n");
    CHECK_FALSE(group.refresh());
    CHECK(group.problem() == GroupProblem::kMalformed);
  }
  SECTION("empty") {
    root.write("/sys/fs/cgroup/memory.max", "");
    CHECK_FALSE(group.refresh());
    CHECK(group.problem() == GroupProblem::kMalformed);
  }
  SECTION("the whole group gone") {
    root.remove("/sys/fs/cgroup");
    CHECK_FALSE(group.refresh());
    CHECK(group.problem() == GroupProblem::kNoController);
    CHECK(working_set(group) == -1);
  }
  SECTION("/proc gone") {
    root.remove("/proc");
    CHECK_FALSE(group.refresh());
  }
  SECTION("no descriptor left") {
    rlimit old{};
    REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    const rlimit none{0, old.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    const bool changed = group.refresh();
    const int64_t figure = working_set(group);
    setrlimit(RLIMIT_NOFILE, &old);
    CHECK_FALSE(changed);
    CHECK(figure == -1);
    CHECK(group.problem() == GroupProblem::kUnreadable);
  }
  CHECK(group.container_bytes() == 512 * kMiB);
  CHECK_FALSE(group.refresh());  // nor does it give way the second time
  CHECK(group.container_bytes() == 512 * kMiB);

  root.lay_out({"", {}, {}});
  root.remove("/sys/fs/cgroup");
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  CHECK_FALSE(group.refresh());
  CHECK(group.problem() == GroupProblem::kNone);
  CHECK(working_set(group) > 0);
}

TEST_CASE("cgroup: a tighter limit counts even beside one that cannot be read", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  MemoryGroup group;
  group.find(root.path().c_str());
  root.write("/sys/fs/cgroup/memory.max", "plenty\n");
  root.write("/sys/fs/cgroup/memory.high", "104857600\n");
  CHECK(group.refresh());
  CHECK(group.container_bytes() == 100 * kMiB);
  CHECK(group.problem() == GroupProblem::kMalformed);
}

TEST_CASE("cgroup: what was unreadable from the start does not hold up a resize", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  root.write("/sys/fs/cgroup/memory.high", "plenty\n");
  MemoryGroup group;
  group.find(root.path().c_str());
  REQUIRE(group.container_bytes() == 512 * kMiB);
  REQUIRE(group.problem() == GroupProblem::kMalformed);
  root.write("/sys/fs/cgroup/memory.max", "1073741824\n");
  CHECK(group.refresh());
  CHECK(group.container_bytes() == 1024 * kMiB);
}

TEST_CASE("cgroup: a FIFO in place of any file is no reason to wait", "[cgroup]") {
  const RecordedTree tree = read_tree(kTrees / "nested-v1.tree");
  for (const auto& [file, content] : tree.files) {
    CAPTURE(file);
    TreeDir root;
    root.lay_out(tree);
    root.remove(file);
    REQUIRE(mkfifo((root.path() + file).c_str(), 0600) == 0);
    MemoryGroup group;
    group.find(root.path().c_str());
    CHECK(group.container_bytes() > 0);
    working_set(group);
    group.refresh();
  }
}

TEST_CASE("cgroup: names as long as the kernel's, and longer", "[cgroup]") {
  for (const size_t depth : {1, 4, 7, 8, 20, 40}) {
    CAPTURE(depth);
    std::string path;
    for (size_t i = 0; i < depth; ++i)
      path += "/" + std::string(250, static_cast<char>('a' + i % 26));
    TreeDir root;
    root.write("/proc/self/cgroup", "0::" + path + "\n");
    root.write("/proc/self/mountinfo", "31 23 0:26 / /c rw - cgroup2 cgroup2 rw\n");
    const bool fits = path.size() + root.path().size() + 64 < memlimit::kMaxGroupPath;
    const std::string group_directory = "/c" + path;
    if (fits) {
      root.write(group_directory + "/cgroup.procs", "1\n");
      root.write(group_directory + "/memory.max", "104857600\n");
    }
    MemoryGroup group;
    group.find(root.path().c_str());
    CHECK((group.container_bytes() == 100 * kMiB) == fits);
    CHECK((group.problem() == GroupProblem::kNone) == fits);
    if (path.size() < 4000 && !fits) CHECK(group.problem() == GroupProblem::kTooLong);
  }
}

TEST_CASE("cgroup: a mountinfo of thousands of lines is read to its end", "[cgroup]") {
  RecordedTree tree = read_tree(kTrees / "docker-v2.tree");
  std::string many;
  for (int i = 0; i < 5000; ++i) {
    many += "99 28 0:78 / /var/lib/x/" + std::to_string(i) +
            " rw - overlay overlay rw,lowerdir=" + std::string(static_cast<size_t>(i % 5000), 'l') +
            "\n";
  }
  std::string& mountinfo = tree.files["/proc/self/mountinfo"];
  mountinfo = many + mountinfo;
  TreeDir root;
  root.lay_out(tree);
  MemoryGroup group;
  group.find(root.path().c_str());
  CHECK(group.container_bytes() == 512 * kMiB);
}

TEST_CASE("cgroup: looking keeps errno", "[cgroup]") {
  MemoryGroup group;
  errno = 4711;
  group.find("/nowhere");
  group.find();
  working_set(group);
  group.refresh();
  CHECK(errno == 4711);
}

TEST_CASE("cgroup: the working set is read no more often than asked", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  MemoryGroup group;
  group.find(root.path().c_str());
  const int64_t first = group.working_set_bytes(1'000'000, 500);
  REQUIRE(first == 143654912 - 52428800);
  root.write("/sys/fs/cgroup/memory.current", "60000000\n");
  CHECK(group.working_set_bytes(1'000'499, 500) == first);
  CHECK(group.last_working_set_bytes() == first);
  CHECK(group.working_set_bytes(1'000'500, 500) == 60000000 - 52428800);
  CHECK(group.last_working_set_bytes() == 60000000 - 52428800);
  root.write("/sys/fs/cgroup/memory.current", "50000000\n");
  CHECK(group.working_set_bytes(1'001'000, 500) == 0);  // counters read at different moments
  root.write("/sys/fs/cgroup/memory.stat", "anon 1\n");
  CHECK(group.working_set_bytes(1'001'500, 500) == 50000000);
  root.write("/sys/fs/cgroup/memory.current", "many\n");
  CHECK(group.working_set_bytes(1'002'000, 500) == -1);
}

TEST_CASE("cgroup: readers see whole figures while the group is looked up again",
          "[cgroup][threads]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "nested-v1.tree"));
  const std::string other = "/sys/fs/cgroup/memory/a-group-with-a-longer-name/below";
  root.write(other + "/cgroup.procs", "1\n");
  root.write(other + "/memory.limit_in_bytes", "104857600\n");
  root.write(other + "/memory.usage_in_bytes", "1000000\n");
  root.write(other + "/memory.stat",
             "hierarchical_memory_limit 104857600\ntotal_inactive_file 400000\n");
  MemoryGroup group;
  group.find(root.path().c_str());
  const int64_t first = working_set(group);
  std::atomic<bool> stop{false};
  std::atomic<int64_t> wrong{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        const int64_t bytes = working_set(group);
        if (bytes != first && bytes != 600000) wrong = bytes;
        const int64_t limit = group.container_bytes();
        if (limit != 209715200 && limit != 104857600) wrong = limit;
      }
    });
  }
  for (int turn = 0; turn < 200; ++turn) {
    // Renamed into place: the file is never seen half written.
    root.write("/proc/self/next",
               turn % 2 == 0 ? "5:memory:" + other.substr(21) + "\n" : "5:memory:/outer/inner\n");
    fs::rename(root.path() + "/proc/self/next", root.path() + "/proc/self/cgroup");
    CHECK(group.refresh());
  }
  stop = true;
  for (auto& reader : readers) reader.join();
  CHECK(wrong == 0);
}

TEST_CASE("cgroup: a move to where nothing can be seen keeps limit and working set", "[cgroup]") {
  TreeDir root;
  root.lay_out(read_tree(kTrees / "docker-v2.tree"));
  MemoryGroup group;
  group.find(root.path().c_str());
  // As after unshare(CLONE_NEWCGROUP) in the container: the mount's root has no name any more.
  root.write("/proc/self/mountinfo", "31 23 0:26 /../.. /sys/fs rw - cgroup2 cgroup2 rw\n");
  root.write("/proc/self/cgroup", "0::/elsewhere\n");
  CHECK_FALSE(group.refresh());
  CHECK(group.container_bytes() == 512 * kMiB);
  CHECK(group.problem() == GroupProblem::kOutside);
  CHECK(limit_path(group) == "/sys/fs/cgroup/memory.max");
  CHECK(working_set(group) == 143654912 - 52428800);
}

TEST_CASE("cgroup: a process is asked for its part of the excess", "[cgroup]") {
  CHECK(fair_share(300, 400, 40) == 30);
  CHECK(fair_share(100, 400, 40) == 10);
  CHECK(fair_share(1, 3, 100) == 1);  // never more than it has
  CHECK(fair_share(10, 30, 100) == 10);
  CHECK(fair_share(100, 300, 100) == 34);  // rounded up: the sum covers the excess
  CHECK(fair_share(500, 400, 40) == 40);   // a group smaller than its member: a race
  CHECK(fair_share(500, -1, 40) == 40);
  CHECK(fair_share(30, -1, 40) == 30);
  CHECK(fair_share(0, 400, 40) == 0);
  CHECK(fair_share(-1, 400, 40) == 0);
  CHECK(fair_share(100, 400, 0) == 0);
  CHECK(fair_share(100, 400, -40) == 0);
  CHECK(fair_share(INT64_MAX - 1, INT64_MAX, INT64_MAX) == INT64_MAX - 1);
  CHECK(fair_share(INT64_MAX / 2, INT64_MAX, INT64_MAX / 2) == INT64_MAX / 4 + 1);
}

TEST_CASE("cgroup: shares of a group cover the excess, and no member pays for another",
          "[cgroup]") {
  std::mt19937_64 random(7);
  for (int turn = 0; turn < 2000; ++turn) {
    std::vector<int64_t> sizes(1 + random() % 12);
    int64_t group = 0;
    for (int64_t& size : sizes)
      group += size = static_cast<int64_t>(random() % (uint64_t{1} << (random() % 40)));
    const int64_t excess = group / static_cast<int64_t>(1 + random() % 9);
    int64_t sum = 0;
    for (const int64_t size : sizes) {
      const int64_t share = fair_share(size, group, excess);
      CHECK(share <= size);
      // Within one byte of its part.
      CHECK(static_cast<double>(share) <= static_cast<double>(excess) * static_cast<double>(size) /
                                                  static_cast<double>(std::max<int64_t>(group, 1)) +
                                              2);
      sum += share;
    }
    CHECK(sum >= excess);
    CHECK(sum <= excess + static_cast<int64_t>(sizes.size()));
  }
}

TEST_CASE("cgroup: no damage to a tree makes it crash, wait or lose every limit",
          "[cgroup][slow]") {
  const std::vector<RecordedTree> trees = read_trees(kTrees);
  std::mt19937_64 random(20240229);
  const std::vector<std::string> pieces = {"max",
                                           "-1",
                                           "0",
                                           "/",
                                           "/..",
                                           ":",
                                           ",",
                                           " ",
                                           "\n",
                                           "-",
                                           "\\040",
                                           "\\",
                                           "\\777",
                                           "18446744073709551616",
                                           "memory",
                                           "cgroup2",
                                           std::string(1, '\0'),
                                           std::string(5000, 'A'),
                                           "%s%n",
                                           "\xff"};
  const auto damage = [&](std::string text) {
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      const size_t at = text.empty() ? 0 : random() % text.size();
      switch (random() % 6) {
        case 0:
          text.insert(at, pieces[random() % pieces.size()]);
          break;
        case 1:
          text.erase(at, 1 + random() % 40);
          break;
        case 2:
          if (!text.empty()) text[at] = static_cast<char>(random());
          break;
        case 3:
          text.resize(at);
          break;
        case 4:
          text += text;
          break;
        default:
          text.insert(at, text.substr(random() % (text.size() + 1), random() % 60));
      }
    }
    return text;
  };
  for (const RecordedTree& tree : trees) {
    CAPTURE(tree.name);
    TreeDir root;
    root.lay_out(tree);
    for (int turn = 0; turn < 40; ++turn) {
      MemoryGroup group;
      group.find(root.path().c_str());
      auto victim = tree.files.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random() % tree.files.size()));
      const std::string& file = victim->first;
      root.write(file, damage(victim->second));
      group.refresh();
      REQUIRE(group.container_bytes() > 0);
      REQUIRE(working_set(group) >= -1);
      group.find(root.path().c_str());
      REQUIRE(group.container_bytes() > 0);
      REQUIRE(working_set(group) >= -1);
      limit_path(group);
      problem_path(group);
      if (random() % 4 != 0) root.write(file, victim->second);
    }
  }
}

namespace {

/* A memory group made for a test, gone with the object; empty path() where none may be made. */
class LiveGroup {
 public:
  explicit LiveGroup(const std::string& path) {
    if (mkdir(path.c_str(), 0755) == 0) path_ = path;
  }
  ~LiveGroup() {
    if (!path_.empty()) rmdir(path_.c_str());
  }
  LiveGroup(const LiveGroup&) = delete;
  LiveGroup& operator=(const LiveGroup&) = delete;
  const std::string& path() const { return path_; }
  bool write(const std::string& file, const std::string& text) const {
    std::ofstream out(path_ + "/" + file);
    out << text;
    out.flush();
    return out.good();
  }

 private:
  std::string path_;
};

/* What the process inside the group found; travels through a pipe. */
struct LiveAnswer {
  int64_t before, after, working_set;
  bool changed;
  char limit[256];
};

}  // namespace

TEST_CASE("cgroup: live v1 groups, 200 MB around 900 MB, give 200 MB and notice a resize",
          "[cgroup][fork]") {
  const std::string base = "/sys/fs/cgroup/memory/memlimit-test-" + std::to_string(getpid());
  const LiveGroup outer(base);
  if (outer.path().empty() || !outer.write("memory.limit_in_bytes", "209715200")) {
    WARN("no v1 memory groups can be made here: not tested");
    return;
  }
  const LiveGroup inner(base + "/inner");
  REQUIRE(inner.write("memory.limit_in_bytes", "943718400"));

  int to_parent[2], to_child[2];
  REQUIRE(pipe(to_parent) == 0);
  REQUIRE(pipe(to_child) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    {
      std::ofstream procs(inner.path() + "/cgroup.procs");
      procs << getpid();
    }
    MemoryGroup group;
    group.find();
    LiveAnswer answer{};
    answer.before = group.container_bytes();
    group.limit_path(answer.limit, sizeof answer.limit);
    (void)!write(to_parent[1], "r", 1);
    char go;
    (void)!read(to_child[0], &go, 1);
    answer.changed = group.refresh();
    answer.after = group.container_bytes();
    constexpr size_t kTouched = size_t{32} << 20;
    std::unique_ptr<char[]> block(new char[kTouched]);
    for (size_t i = 0; i < kTouched; i += 512) static_cast<volatile char*>(block.get())[i] = 1;
    answer.working_set = working_set(group);
    (void)!write(to_parent[1], &answer, sizeof answer);
    _exit(0);
  }
  char ready = 0;
  CHECK(read(to_parent[0], &ready, 1) == 1);
  CHECK(outer.write("memory.limit_in_bytes", "314572800"));
  CHECK(write(to_child[1], "g", 1) == 1);
  LiveAnswer answer{};
  CHECK(read(to_parent[0], &answer, sizeof answer) == static_cast<ssize_t>(sizeof answer));
  waitpid(child, nullptr, 0);
  for (const int fd : {to_parent[0], to_parent[1], to_child[0], to_child[1]}) close(fd);
  CHECK(answer.before == 209715200);
  CHECK(std::string(answer.limit) == outer.path() + "/memory.limit_in_bytes");
  CHECK(answer.changed);
  CHECK(answer.after == 314572800);
  CHECK(answer.working_set >= (int64_t{32} << 20));
  CHECK(answer.working_set < (int64_t{300} << 20));
}

TEST_CASE("cgroup: live namespaces and bind mounts of v1 groups resolve as the kernel shows them",
          "[cgroup][fork]") {
  const std::string hierarchy = "/sys/fs/cgroup/memory";
  const LiveGroup outer(hierarchy + "/memlimit-test-ns-" + std::to_string(getpid()));
  if (outer.path().empty() || !outer.write("memory.limit_in_bytes", "209715200")) {
    WARN("no v1 memory groups can be made here: not tested");
    return;
  }
  const LiveGroup inner(outer.path() + "/inner");
  const TreeDir points;
  const std::string bound = points.path() + "/bound", fresh = points.path() + "/fresh";
  fs::create_directory(bound);
  fs::create_directory(fresh);

  struct Look {
    int64_t bytes;
    LimitFile file;
    GroupProblem problem;
    char limit[256];
  };
  enum { kBound, kHidden, kFresh, kCovered, kLooks };
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    { std::ofstream(inner.path() + "/cgroup.procs") << getpid(); }
    const auto look = [&] {
      static MemoryGroup group;
      group.find();
      Look seen{group.container_bytes(), group.limit_file(), group.problem(), {}};
      group.limit_path(seen.limit, sizeof seen.limit);
      (void)!write(fds[1], &seen, sizeof seen);
    };
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount(outer.path().c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
        mount(hierarchy.c_str(), fresh.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
        umount2(hierarchy.c_str(), MNT_DETACH) != 0 || umount(fresh.c_str()) != 0) {
      _exit(77);
    }
    look();
    if (unshare(CLONE_NEWCGROUP) != 0) _exit(77);
    // The bind mount is now the nameless parent "/..".
    look();
    if (mount("cgroup", fresh.c_str(), "cgroup", 0, "memory") != 0) _exit(77);
    look();
    if (mount(bound.c_str(), fresh.c_str(), nullptr, MS_BIND, nullptr) != 0) _exit(77);
    look();
    _exit(0);
  }
  close(fds[1]);
  Look looks[kLooks] = {};
  int seen = 0;
  while (seen < kLooks &&
         read(fds[0], &looks[seen], sizeof looks[seen]) == ssize_t{sizeof looks[0]}) {
    ++seen;
  }
  close(fds[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    WARN("namespaces cannot be made here: not tested");
    return;
  }
  REQUIRE(seen == kLooks);
  for (const Look& each : looks) CHECK(each.bytes == 209715200);
  CHECK(std::string(looks[kBound].limit) == bound + "/memory.limit_in_bytes");
  CHECK(looks[kBound].problem == GroupProblem::kNone);
  CHECK(std::string(looks[kHidden].limit) == bound + "/memory.limit_in_bytes");
  CHECK(looks[kHidden].problem == GroupProblem::kOutside);
  CHECK(std::string(looks[kFresh].limit) == fresh + "/memory.stat");
  CHECK(looks[kFresh].file == LimitFile::kV1Stat);
  CHECK(looks[kFresh].problem == GroupProblem::kNone);
  // The fresh mount is covered by one that shows the parent: it must not pass for the own group.
  CHECK(looks[kCovered].problem == GroupProblem::kOutside);
}
