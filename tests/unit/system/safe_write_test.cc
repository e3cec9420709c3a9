/* Writes to descriptors that are closed, broken, full or limited: the program lives and does not wait. */
#include "system/safe_write.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using memlimit::safe_write;

namespace {

struct Pipe {
  Pipe() { REQUIRE(pipe2(ends, O_CLOEXEC) == 0); }
  ~Pipe() {
    close_reader();
    if (ends[1] >= 0) close(ends[1]);
  }
  void close_reader() {
    if (ends[0] >= 0) close(ends[0]);
    ends[0] = -1;
  }
  int ends[2];
};

bool is_pending(int signal) {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  return sigismember(&pending, signal) == 1;
}

}  // namespace

TEST_CASE("safe_write: writes the whole text and keeps errno", "[safe_write]") {
  const Pipe pipe;
  errno = 77;
  CHECK(safe_write(pipe.ends[1], "hello", 5, 0) == 0);
  CHECK(errno == 77);
  char got[8] = {};
  CHECK(read(pipe.ends[0], got, sizeof got) == 5);
  CHECK(std::string(got) == "hello");
  CHECK(safe_write(pipe.ends[1], "", 0, 0) == 0);
}

TEST_CASE("safe_write: a closed descriptor is an error, not a crash", "[safe_write]") {
  CHECK(safe_write(-1, "x", 1, 0) != 0);
  CHECK(safe_write(1'000'000, "x", 1, 0) == -EBADF);
  CHECK(errno != EBADF);
}

TEST_CASE("safe_write: a pipe without a reader kills nobody and leaves no signal behind",
          "[safe_write]") {
  Pipe pipe;
  pipe.close_reader();
  // The default action is to kill: that this process goes on is the test.
  struct sigaction before;
  REQUIRE(sigaction(SIGPIPE, nullptr, &before) == 0);
  REQUIRE(before.sa_handler == SIG_DFL);
  CHECK(safe_write(pipe.ends[1], "x", 1, 0) == -EPIPE);
  CHECK_FALSE(is_pending(SIGPIPE));
  sigset_t mask;
  REQUIRE(pthread_sigmask(SIG_BLOCK, nullptr, &mask) == 0);
  CHECK(sigismember(&mask, SIGPIPE) == 0);
  CHECK(sigismember(&mask, SIGXFSZ) == 0);
}

TEST_CASE("safe_write: a SIGPIPE that the program holds pending stays pending", "[safe_write]") {
  Pipe pipe;
  pipe.close_reader();
  sigset_t sigpipe, before;
  sigemptyset(&sigpipe);
  sigaddset(&sigpipe, SIGPIPE);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &sigpipe, &before) == 0);
  raise(SIGPIPE);
  REQUIRE(is_pending(SIGPIPE));
  CHECK(safe_write(pipe.ends[1], "x", 1, 0) == -EPIPE);
  CHECK(is_pending(SIGPIPE));
  const timespec now{};
  CHECK(sigtimedwait(&sigpipe, nullptr, &now) == SIGPIPE);
  REQUIRE(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
}

TEST_CASE("safe_write: a full pipe that blocks is not waited for", "[safe_write]") {
  const Pipe pipe;
  const int flags = fcntl(pipe.ends[1], F_GETFL);
  REQUIRE(fcntl(pipe.ends[1], F_SETFL, flags | O_NONBLOCK) == 0);
  const std::string block(4096, 'x');
  while (write(pipe.ends[1], block.data(), block.size()) > 0) {
  }
  // Blocking again: a plain write(2) would never return.
  REQUIRE(fcntl(pipe.ends[1], F_SETFL, flags) == 0);
  CHECK(safe_write(pipe.ends[1], "x", 1, 0) == -EAGAIN);
}

TEST_CASE("safe_write: a full disk is reported", "[safe_write]") {
  const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  CHECK(safe_write(fd, "x", 1, 0) == -ENOSPC);
  close(fd);
}

TEST_CASE("safe_write: a file at its size limit kills nobody", "[safe_write][fork]") {
  char path[] = "/tmp/memlimit-test-XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{4, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(10);
    signal(SIGXFSZ, SIG_DFL);
    if (safe_write(fd, "1234", 4, 0) != 0) _exit(11);
    if (safe_write(fd, "5", 1, 0) != -EFBIG) _exit(12);
    _exit(is_pending(SIGXFSZ) ? 13 : 0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  close(fd);
  unlink(path);
}
