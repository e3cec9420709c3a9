/* A heap that lies in a file in memory: what it holds counts once, until it is not that file any more. */
#include "system/memory_file.h"

#include <cerrno>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "system/folder.h"

using memlimit::MemoryFile;

namespace {

constexpr size_t kBytes = size_t{1} << 20;

/* A memory file that is open as long as the object lives. */
class Heap {
 public:
  explicit Heap(const char* name) : fd_(memfd_create(name, MFD_CLOEXEC)) {
    REQUIRE(fd_ >= 0);
    REQUIRE(ftruncate(fd_, 64 * kBytes) == 0);
  }
  ~Heap() { close(fd_); }
  int fd() const { return fd_; }

  /* Maps it once more, and touches so much of the mapping. */
  void touch(size_t bytes) {
    void* const at = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    REQUIRE(at != MAP_FAILED);
    for (size_t i = 0; i < bytes; i += 4096) static_cast<volatile char*>(at)[i] = 1;
    munmap(at, kBytes);
  }

 private:
  int fd_;
};

}  // namespace

TEST_CASE("memory_file: what it holds counts once, however often it is mapped", "[memory_file]") {
  Heap heap("memlimit-test-heap");
  MemoryFile file;
  CHECK(file.bytes() == 0);
  REQUIRE(file.find("memlimit-test-heap"));
  CHECK(file.bytes() == 0);
  heap.touch(kBytes / 2);
  // Where shared memory is made of huge pages it takes more than was touched.
  const int64_t held = file.bytes();
  CHECK(held >= static_cast<int64_t>(kBytes / 2));
  heap.touch(kBytes / 2);
  heap.touch(kBytes / 2);
  CHECK(file.bytes() == held);
  REQUIRE(fallocate(heap.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * kBytes) == 0);
  CHECK(file.bytes() == 0);
}

TEST_CASE("memory_file: another file of the number, and a child's, count as nothing",
          "[memory_file][fork]") {
  Heap heap("memlimit-test-heap");
  Heap other("memlimit-test-heap-2");
  other.touch(kBytes);
  heap.touch(kBytes);
  MemoryFile file;
  CHECK_FALSE(file.find("memlimit-test"));
  REQUIRE(file.find("memlimit-test-heap"));
  CHECK(file.bytes() >= static_cast<int64_t>(kBytes));
  const pid_t child = fork();
  if (child == 0) _exit(file.bytes() == 0 ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  const int kept = dup(heap.fd());
  REQUIRE(dup2(other.fd(), heap.fd()) == heap.fd());
  errno = 7;
  CHECK(file.bytes() == 0);
  CHECK(errno == 7);
  close(kept);
}

TEST_CASE("folder: names come until the visitor has enough", "[memory_file]") {
  struct Seen {
    int names = 0;
    int most = 1000;
  } seen;
  const auto count = [](const char* name, void* arg) {
    auto& [names, most] = *static_cast<Seen*>(arg);
    names += std::string(name).empty() ? 0 : 1;
    return names < most;
  };
  memlimit::os::for_each_name("/proc/self/task", count, &seen);
  CHECK(seen.names >= 3); /* one of them is this thread's */
  seen = {0, 2};
  memlimit::os::for_each_name("/proc/self/task", count, &seen);
  CHECK(seen.names == 2);
  seen = {};
  memlimit::os::for_each_name("/nonexistent", count, &seen);
  CHECK(seen.names == 0);
}
