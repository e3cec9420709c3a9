/* See child_process.h. Standard error goes to a memory file and not to a pipe: grandchildren that outlive the child
 * must not keep the test waiting for its end. */
#include "child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace memlimit::test {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string read_whole(int fd) {
  std::string text;
  char buffer[4096];
  off_t at = 0;
  for (ssize_t length; (length = pread(fd, buffer, sizeof buffer, at)) > 0; at += length)
    text.append(buffer, static_cast<size_t>(length));
  return text;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& string : strings) result.push_back(const_cast<char*>(string.c_str()));
  result.push_back(nullptr);
  return result;
}

/* True when the descriptor is ready before the guard strikes. */
bool wait_ready(int fd) {
  pollfd entry{fd, POLLIN, 0};
  for (;;) {
    const int count = poll(&entry, 1, kHangGuardSeconds * 1000);
    if (count >= 0) return count == 1;
    if (errno != EINTR) fail("poll");
  }
}

}  // namespace

Child::Child(const Command& command) {
  int input[2], output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) fail("pipe2");
  error_ = memfd_create("standard-error", MFD_CLOEXEC);
  if (error_ < 0) fail("memfd_create");

  std::vector<std::string> arguments{command.program};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  const std::vector<char*> argument_pointers = pointers(arguments);
  const std::vector<char*> environment_pointers = pointers(command.environment);

  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) { /* only system calls from here on */
    setpgid(0, 0);
    dup2(input[0], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    dup2(error_, STDERR_FILENO);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    if (chdir(command.directory.c_str()) != 0) _exit(126);
    execve(command.program.c_str(), argument_pointers.data(), environment_pointers.data());
    _exit(127);
  }
  close(input[0]);
  close(output[1]);
  input_ = input[1];
  output_ = output[0];
  pid_fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0U));
  if (pid_fd_ < 0) fail("pidfd_open");
}

Child::~Child() {
  if (pid_ > 0) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (int fd : {pid_fd_, input_, output_, error_}) {
    if (fd >= 0) close(fd);
  }
}

std::string Child::read_line() {
  for (;;) {
    const size_t end = unread_.find('\n');
    if (end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    if (!wait_ready(output_)) return "";
    char buffer[4096];
    const ssize_t length = read(output_, buffer, sizeof buffer);
    if (length <= 0) return "";
    unread_.append(buffer, static_cast<size_t>(length));
  }
}

void Child::close_input() {
  if (input_ >= 0) close(input_);
  input_ = -1;
}

void Child::send_signal(int number) { kill(pid_, number); }

Outcome Child::wait() {
  close_input();
  Outcome outcome;
  /* Output is read while the child runs, or a full pipe would stop it. */
  fcntl(output_, F_SETFL, O_NONBLOCK);
  bool ended = false;
  while (!ended) {
    pollfd entries[2] = {{pid_fd_, POLLIN, 0}, {output_, POLLIN, 0}};
    const int count = poll(entries, output_ >= 0 ? 2 : 1, kHangGuardSeconds * 1000);
    if (count < 0) {
      if (errno != EINTR) fail("poll");
      continue;
    }
    if (count == 0) {
      outcome.hung = true;
      kill(-pid_, SIGKILL);
    }
    ended = count == 0 || (entries[0].revents & POLLIN) != 0;
    if (output_ < 0) continue;
    char buffer[4096];
    ssize_t length;
    while ((length = read(output_, buffer, sizeof buffer)) > 0)
      unread_.append(buffer, static_cast<size_t>(length));
    if (length == 0) {
      close(output_);
      output_ = -1;
    }
  }
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) fail("waitpid");
  pid_ = -1;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome.out = std::move(unread_);
  outcome.err = read_whole(error_);
  return outcome;
}

Outcome run(const Command& command) {
  Child child(command);
  return child.wait();
}

}  // namespace memlimit::test
