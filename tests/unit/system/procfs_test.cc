/* What is read from /proc: the parsers on any content, and the real files of this process. */
#include "system/procfs.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/recorded_tree.h"
#include "system/line_reader.h"
#include "system/os.h"

namespace procfs = memlimit::procfs;
using memlimit::LineReader;
using memlimit::test::TreeDir;

TEST_CASE("procfs: a thread runs or waits for a processor, or for something else", "[procfs]") {
  CHECK(procfs::parse_runnable("12 (memlimit) R 1 2"));
  CHECK(procfs::parse_runnable("12 (a) S (b)) R 1 2"));
  CHECK_FALSE(procfs::parse_runnable("12 (memlimit) S 1 2"));
  CHECK_FALSE(procfs::parse_runnable("12 (x) R 5) D 1 2"));
  for (const char* const text : {"", "12", "12 (memlimit", "12 (memlimit)", "12 (memlimit) R"})
    CHECK_FALSE(procfs::parse_runnable(text));
  CHECK(procfs::thread_is_runnable(memlimit::os::thread_id()));
  CHECK_FALSE(procfs::thread_is_runnable(0));
  CHECK_FALSE(procfs::thread_is_runnable(-1));
}

TEST_CASE("procfs: a thread is found by its name", "[procfs]") {
  char before[16];
  REQUIRE(prctl(PR_GET_NAME, before) == 0);
  REQUIRE(prctl(PR_SET_NAME, "memlimit named") == 0);
  const char* const names[] = {"nobody", "memlimit named", nullptr};
  CHECK(procfs::has_thread_named(names));
  REQUIRE(prctl(PR_SET_NAME, before) == 0);
  CHECK_FALSE(procfs::has_thread_named(names));
  const char* const nothing[] = {nullptr};
  CHECK_FALSE(procfs::has_thread_named(nothing));
}

TEST_CASE("procfs: what threads have used is told by how their names begin", "[procfs]") {
  char before[16];
  REQUIRE(prctl(PR_GET_NAME, before) == 0);
  REQUIRE(prctl(PR_SET_NAME, "worker#7") == 0);
  const char* const names[] = {"nobody#", "worker#", nullptr};
  const int64_t least_ns = memlimit::os::thread_cpu_ns();
  const int64_t used_ns = procfs::cpu_ns_of_threads_named(names);
  CHECK(used_ns >= least_ns);
  CHECK(used_ns <= memlimit::os::thread_cpu_ns());
  const char* const others[] = {"nobody#", "orker#", "worker#70", nullptr};
  CHECK(procfs::cpu_ns_of_threads_named(others) == 0);
  REQUIRE(prctl(PR_SET_NAME, before) == 0);
}

TEST_CASE("procfs: the footprint is resident less shared, in bytes", "[procfs]") {
  CHECK(procfs::parse_statm("765 442 413 5 0 123 0\n", 4096).resident_bytes == (442 - 413) * 4096);
  CHECK(procfs::parse_statm("765 442 413 5 0 123 0\n", 65536).resident_bytes ==
        (442 - 413) * 65536);
  CHECK(procfs::parse_statm("100 20 20", 4096).resident_bytes == 0);
  CHECK(procfs::parse_statm("1 2 0\n", 4096).resident_bytes == 8192);
}

TEST_CASE("procfs: what a process can touch is its sixth field", "[procfs]") {
  CHECK(procfs::parse_statm("765 442 413 5 0 123 0\n", 4096).writable_bytes == 123 * 4096);
  for (const char* text : {"765 442 413 5 0\n", "765 442 413 5 0 x 0\n", "765 442 413 5 0 -1 0\n",
                           "765 442 413 5 0 9223372036854775807 0\n", "0 0 0 0 0 0 0\n", ""}) {
    CAPTURE(text);
    CHECK(procfs::parse_statm(text, 4096).writable_bytes == procfs::kUnknown);
  }
  CHECK(procfs::parse_statm("765 442 413 5 0 x 0\n", 4096).resident_bytes == 29 * 4096);
}

TEST_CASE("procfs: a mapping can be touched before it is", "[procfs]") {
  constexpr size_t kBytes = size_t{64} << 20;
  const procfs::OwnMemory before = procfs::own_memory();
  void* const block =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(block != MAP_FAILED);
  const procfs::OwnMemory after = procfs::own_memory();
  munmap(block, kBytes);
  CHECK(after.writable_bytes - before.writable_bytes > int64_t{kBytes} / 2);
  CHECK(after.resident_bytes - before.resident_bytes < int64_t{kBytes} / 2);
}

TEST_CASE("procfs: shared above resident, as a race can show it, is no footprint", "[procfs]") {
  CHECK(procfs::parse_statm("765 10 12 5 0 123 0\n", 4096).resident_bytes == 0);
}

TEST_CASE("procfs: a statm that makes no sense is unknown", "[procfs]") {
  for (const char* text :
       {"", "\n", "765", "765 442", "765 442 ", "a b c", "-1 442 413", "765 -442 413",
        "765 442x 413", "0 0 0 0 0 0 0\n", "99999999999999999999 1 1",
        "765 9223372036854775807 1 0 0 0 0", "765\n442\n413\n", " 765 442 413garbage"}) {
    CAPTURE(text);
    CHECK(procfs::parse_statm(text, 4096).resident_bytes == procfs::kUnknown);
  }
}

TEST_CASE("procfs: a kB line is read for its own key only", "[procfs]") {
  CHECK(procfs::parse_kb_line("RssAnon:\t     112 kB", "RssAnon:") == 112 * 1024);
  CHECK(procfs::parse_kb_line("MemTotal:       24684084 kB", "MemTotal:") == 24684084LL * 1024);
  CHECK(procfs::parse_kb_line("RssAnonymous: 112 kB", "RssAnon:") == procfs::kUnknown);
  CHECK(procfs::parse_kb_line("RssFile:\t 112 kB", "RssAnon:") == procfs::kUnknown);
  for (const char* line :
       {"RssAnon:", "RssAnon: kB", "RssAnon: 112", "RssAnon: 112 MB", "RssAnon: -1 kB",
        "RssAnon: 112 kB ", "RssAnon: 9223372036854775807 kB", "RssAnon: 1 1 kB"}) {
    CAPTURE(line);
    CHECK(procfs::parse_kb_line(line, "RssAnon:") == procfs::kUnknown);
  }
}

TEST_CASE("procfs: an integer is taken off the front, or nothing is", "[procfs]") {
  std::string_view text = "9223372036854775807 rest";
  CHECK(procfs::take_integer(&text) == INT64_MAX);
  CHECK(text == " rest");
  text = "9223372036854775808";
  CHECK(procfs::take_integer(&text) == procfs::kUnknown);
  CHECK(text == "9223372036854775808");
  text = "";
  CHECK(procfs::take_integer(&text) == procfs::kUnknown);
}

TEST_CASE("procfs: a name is made fit to print", "[procfs]") {
  char out[16];
  CHECK(procfs::clean_name("nginx\n", out, sizeof out) == 5);
  CHECK(std::string(out) == "nginx");
  CHECK(procfs::clean_name("a\tb\x7f"
                           "c\x1b[1m\nmore",
                           out, sizeof out) == 9);
  CHECK(std::string(out) == "a?b?c?[1m");
  CHECK(procfs::clean_name("\xc3\xa9t\xc3\xa9\n", out, sizeof out) == 5);
  CHECK(std::string(out) == "\xc3\xa9t\xc3\xa9");
  CHECK(procfs::clean_name("", out, sizeof out) == 1);
  CHECK(std::string(out) == "?");
  char tiny[4];
  CHECK(procfs::clean_name("nginx", tiny, sizeof tiny) == 3);
  CHECK(std::string(tiny) == "ngi");
}

TEST_CASE("procfs: this process's footprint grows by the memory that it touches", "[procfs]") {
  constexpr size_t kBytes = size_t{64} << 20;
  const int64_t before = procfs::footprint_bytes();
  const int64_t anon_before = procfs::rss_anon_bytes();
  REQUIRE(before > 0);
  REQUIRE(anon_before > 0);
  void* block = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(block != MAP_FAILED);
  memset(block, 1, kBytes);
  // Half of it: kernels with per-CPU counters show a part late.
  CHECK(procfs::footprint_bytes() - before > int64_t{kBytes} / 2);
  CHECK(procfs::rss_anon_bytes() - anon_before > int64_t{kBytes} / 2);
  munmap(block, kBytes);
}

TEST_CASE("procfs: reading keeps errno", "[procfs]") {
  char name[32];
  errno = 4711;
  procfs::footprint_bytes();
  procfs::rss_anon_bytes();
  procfs::physical_memory_bytes();
  procfs::physical_memory_bytes("/nowhere");
  procfs::process_name(name, sizeof name);
  CHECK(errno == 4711);
}

TEST_CASE("procfs: the name is this program's", "[procfs]") {
  char name[32], expected[32] = {};
  std::ifstream("/proc/self/comm").getline(expected, sizeof expected);
  CHECK(procfs::process_name(name, sizeof name) == strlen(expected));
  CHECK(std::string(name) == expected);
}

TEST_CASE("procfs: physical memory has a fallback where /proc is absent", "[procfs]") {
  TreeDir root;
  root.write("/proc/meminfo", "MemFree: 1 kB\nMemTotal:       2048 kB\n");
  CHECK(procfs::physical_memory_bytes(root.path().c_str()) == 2048 * 1024);
  const int64_t installed = memlimit::os::installed_memory_bytes();
  REQUIRE(installed > 0);
  for (const char* text :
       {"", "MemTotal: 0 kB\n", "MemTotal: many kB\n", "MemTotal: 99999999999999999999 kB"}) {
    CAPTURE(text);
    root.write("/proc/meminfo", text);
    CHECK(procfs::physical_memory_bytes(root.path().c_str()) == installed);
  }
  root.remove("/proc/meminfo");
  CHECK(procfs::physical_memory_bytes(root.path().c_str()) == installed);
  CHECK(procfs::physical_memory_bytes(std::string(5000, 'x').c_str()) == installed);
}

TEST_CASE("procfs: only a map of all ids to themselves maps everybody", "[procfs]") {
  CHECK(procfs::maps_all_ids("         0          0 4294967295\n"));
  for (const char* text :
       {"", "\n", "         0          0 4294967295", "         0          0      65536\n",
        "         0     100000 4294967295\n", "         1          1 4294967295\n",
        "         0          0 4294967295\n         0          0          1\n",
        "         0          0 42949672950\n", "all of them\n"}) {
    CAPTURE(text);
    CHECK_FALSE(procfs::maps_all_ids(text));
  }
}

TEST_CASE("procfs: who is not mapped is nobody's equal", "[procfs]") {
  constexpr procfs::Ids kInitial{65534, true};
  constexpr procfs::Ids kContainer{65534, false};
  constexpr procfs::Ids kOther{4000, false};
  CHECK(procfs::is_same_id(1000, 1000, kContainer));
  CHECK_FALSE(procfs::is_same_id(1000, 1001, kContainer));
  CHECK_FALSE(procfs::is_same_id(65534, 1001, kContainer));
  CHECK_FALSE(procfs::is_same_id(65534, 65534, kContainer));
  CHECK(procfs::is_same_id(65534, 65534, kInitial));
  CHECK(procfs::is_same_id(65534, 65534, kOther));
  CHECK_FALSE(procfs::is_same_id(4000, 4000, kOther));
}

TEST_CASE("procfs: ids are read, and where they are not told nobody is mapped", "[procfs]") {
  TreeDir dir;
  const std::string map = dir.path() + "/map", overflow = dir.path() + "/overflow";
  const auto read = [&] { return procfs::read_ids(map.c_str(), overflow.c_str()); };
  CHECK(read().overflow == 65534);
  CHECK_FALSE(read().all_mapped);
  std::ofstream(map) << "         0          0 4294967295\n";
  std::ofstream(overflow) << "4000\n";
  CHECK(read().overflow == 4000);
  CHECK(read().all_mapped);
  std::ofstream(overflow) << "4294967296\n";
  CHECK(read().overflow == 65534);
}

TEST_CASE("procfs: the footprint is still told after the main thread has ended",
          "[procfs][threads][fork]") {
  int pipe_fds[2];
  REQUIRE(pipe(pipe_fds) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    static int out;
    out = pipe_fds[1];
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        [](void*) -> void* {
          // Until the leader is gone; its statm reads all zero from then on.
          char text[64];
          do memlimit::os::read_file("/proc/self/statm", text, sizeof text);
          while (text[0] != '0');
          const int64_t bytes = procfs::footprint_bytes(), anon = procfs::rss_anon_bytes();
          const char verdict = bytes > 0 && anon > 0 ? 'y' : 'n';
          memlimit::os::write_all(out, &verdict, 1);
          _exit(0);
        },
        nullptr);
    // Not pthread_exit: that runs destructors and sanitizer hooks which the child has no use for.
    syscall(SYS_exit, 0);
  }
  close(pipe_fds[1]);
  char verdict = '?';
  CHECK(read(pipe_fds[0], &verdict, 1) == 1);
  CHECK(verdict == 'y');
  close(pipe_fds[0]);
  waitpid(child, nullptr, 0);
}

namespace {

/* The highest descriptor that is open, which is where FootprintFile keeps its own. */
int highest_fd() {
  int highest = -1;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    highest = std::max(highest, std::stoi(entry.path().filename()));
  }
  return highest;
}

}  // namespace

TEST_CASE("procfs: a kept descriptor tells the same footprint", "[procfs]") {
  procfs::FootprintFile file;
  const int before = highest_fd();
  const int64_t first = file.read().resident_bytes;
  REQUIRE(first > 0);
  const int kept = highest_fd();
  CHECK(kept > before);
  CHECK((fcntl(kept, F_GETFD) & FD_CLOEXEC) != 0);
  constexpr size_t kBytes = size_t{64} << 20;
  std::vector<char> block(kBytes, 1);
  asm volatile("" : : "r"(block.data()) : "memory");  // clang may leave out what nobody reads
  CHECK(file.read().resident_bytes - first > int64_t{kBytes} / 2);
  CHECK(highest_fd() == kept);  // and opens nothing anew
  file.close();
  CHECK(highest_fd() == before);
  CHECK(file.read().resident_bytes > 0);
  file.close();
  file.close();
}

TEST_CASE("procfs: a descriptor closed or taken over by the program is not read and not closed",
          "[procfs]") {
  procfs::FootprintFile file;
  const int64_t first = file.read().resident_bytes;
  REQUIRE(first > 0);
  const int kept = highest_fd();

  close(kept);
  CHECK(file.read().resident_bytes > first / 2);
  REQUIRE(highest_fd() == kept);

  TreeDir root;
  root.write("/trap", "9999999 9999999 1 0 0 0 0\n");
  const int trap = open((root.path() + "/trap").c_str(), O_RDONLY);
  REQUIRE(dup2(trap, kept) == kept);
  CHECK(file.read().resident_bytes < int64_t{9999998} * 4096);
  char text[8] = {};
  CHECK(read(kept, text, 7) == 7);
  CHECK(std::string(text) == "9999999");
  close(kept);
  close(trap);
  file.close();

  CHECK(file.read().resident_bytes > 0);
  const int again = highest_fd();
  const int null = open("/dev/null", O_RDONLY);
  REQUIRE(dup2(null, again) == again);
  file.close();
  CHECK(fcntl(again, F_GETFD) >= 0);
  close(again);
  close(null);
}

TEST_CASE("procfs: a child of fork reads its own footprint, by one descriptor", "[procfs][fork]") {
  procfs::FootprintFile file;
  REQUIRE(file.read().resident_bytes > 0);
  const int kept = highest_fd();
  constexpr size_t kBytes = size_t{64} << 20;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int64_t before = file.read().resident_bytes;
    void* block = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(block, 1, kBytes);
    const bool own = file.read().resident_bytes - before > int64_t{kBytes} / 2;
    _exit(own && highest_fd() == kept ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(file.read().resident_bytes > 0);
  CHECK(highest_fd() == kept);
  file.close();
}

TEST_CASE("procfs: threads reading together all get a footprint", "[procfs][threads]") {
  procfs::FootprintFile file;
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) bad += file.read().resident_bytes <= 0;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(bad == 0);
  file.close();
}

namespace {

std::vector<std::string> lines_of(const std::string& content, size_t cap,
                                  int64_t max_bytes = 1 << 20) {
  TreeDir root;
  root.write("/file", content);
  std::vector<char> buffer(cap);
  std::vector<std::string> lines;
  LineReader reader((root.path() + "/file").c_str(), buffer.data(), cap, max_bytes);
  std::string_view line;
  while (reader.next(&line)) lines.emplace_back(line);
  CHECK(reader.error() == 0);
  return lines;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("line_reader: lines come out whole whatever the buffer", "[procfs]") {
  std::string content;
  Lines expected;
  for (int i = 0; i < 300; ++i) {
    expected.push_back(std::string(static_cast<size_t>(i % 31), static_cast<char>('a' + i % 26)));
    content += expected.back() + "\n";
  }
  for (const size_t cap : {31, 32, 33, 64, 1000, 100000}) {
    CAPTURE(cap);
    CHECK(lines_of(content, cap) == expected);
  }
}

TEST_CASE("line_reader: a line longer than the buffer is left out whole", "[procfs]") {
  CHECK(lines_of("a\n12345678\nb\n", 8) == Lines{"a", "b"});
  CHECK(lines_of("a\n1234567\nb\n", 8) == Lines{"a", "1234567", "b"});
  CHECK(lines_of(std::string(1000, 'x') + "\nb", 8) == Lines{"b"});
  for (const size_t length : {1000, 1001, 1003, 1007}) {
    CAPTURE(length);
    CHECK(lines_of(std::string(length, 'x'), 8) == Lines{});
  }
}

TEST_CASE("line_reader: the last line needs no newline, unless the budget cut it", "[procfs]") {
  CHECK(lines_of("a\nb", 8) == Lines{"a", "b"});
  CHECK(lines_of("", 8) == Lines{});
  CHECK(lines_of("\n\n", 8) == Lines{"", ""});
  CHECK(lines_of("first\nsecond\n", 64, 9) == Lines{"first"});
}

TEST_CASE("line_reader: a directory, a FIFO and a device without end come to an end", "[procfs]") {
  TreeDir root;
  char buffer[64];
  std::string_view line;
  LineReader directory(root.path().c_str(), buffer, sizeof buffer, 1 << 16);
  CHECK_FALSE(directory.next(&line));
  CHECK(directory.error() == -EISDIR);
  REQUIRE(mkfifo((root.path() + "/fifo").c_str(), 0600) == 0);
  LineReader fifo((root.path() + "/fifo").c_str(), buffer, sizeof buffer, 1 << 16);
  CHECK_FALSE(fifo.next(&line));
  LineReader zero("/dev/zero", buffer, sizeof buffer, 1 << 16);
  CHECK_FALSE(zero.next(&line));
  LineReader missing("/nowhere", buffer, sizeof buffer, 1 << 16);
  CHECK_FALSE(missing.next(&line));
  CHECK(missing.error() == -ENOENT);
}

TEST_CASE("procfs: a process that nobody has waited for is a zombie", "[procfs]") {
  CHECK(procfs::parse_zombie("12 (a) R 9 (b) Z 7 12 12"));
  for (const char* const text :
       {"", "12 (sh", "12 (sh)", "12 (sh) S 7 1", "12 (a) Z 1 (b) S 7", "12 (sh)Z 7 1"}) {
    INFO(text);
    CHECK_FALSE(procfs::parse_zombie(text));
  }
  CHECK_FALSE(procfs::is_zombie(getpid()));
  CHECK_FALSE(procfs::is_zombie(-1));
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t ended{};
  REQUIRE(waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT) == 0);
  CHECK(procfs::is_zombie(child));
  REQUIRE(waitpid(child, nullptr, 0) == child);
  CHECK_FALSE(procfs::is_zombie(child));
}

TEST_CASE("procfs: the parent stands behind a name of any kind", "[procfs]") {
  CHECK(procfs::parse_parent("12 (sh) S 7 12 12 0 -1") == 7);
  CHECK(procfs::parse_parent("12 (a) R 9 (b) S 7 12 12") == 7);
  for (const char* const text :
       {"", "12 (sh", "12 (sh)", "12 (sh) S", "12 (sh) S x", "12 (sh) S 0 1", "12 (sh)S 7 1"}) {
    INFO(text);
    CHECK(procfs::parse_parent(text) == procfs::kUnknown);
  }
  CHECK(procfs::parent_of(getpid()) == getppid());
  CHECK(procfs::footprint_bytes_of(getpid()) > 0);
  CHECK(procfs::footprint_bytes_of(-1) == procfs::kUnknown);
}
