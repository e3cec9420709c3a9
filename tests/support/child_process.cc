/* See child_process.h. Standard error goes to a memory file and not to a pipe: grandchildren that outlive the child
 * must not keep the test waiting for its end. */
#include "child_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
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

/* Of the group's processes that live, and of the children that they have waited for. */
int64_t processor_ms(pid_t group) {
  DIR* const processes = opendir("/proc");
  if (processes == nullptr) return 0;
  uint64_t ticks = 0;
  while (const dirent* const entry = readdir(processes)) {
    if (atoi(entry->d_name) == 0) continue;
    const std::string path = std::string(entry->d_name) + "/stat";
    const int fd = openat(dirfd(processes), path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue; /* it has ended */
    const std::string stat = read_whole(fd);
    close(fd);
    const size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos) continue;
    int of_group = 0;
    unsigned long user = 0, system = 0, children_user = 0, children_system = 0;
    if (sscanf(stat.c_str() + name_end + 1,
               " %*c %*d %d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &of_group, &user,
               &system, &children_user, &children_system) == 5 &&
        of_group == group)
      ticks += user + system + children_user + children_system;
  }
  closedir(processes);
  return static_cast<int64_t>(ticks * 1000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
}

/* How long a program takes says nothing where others have the processors. */
class HangGuard {
 public:
  static constexpr int kLookMs = 5000;

  explicit HangGuard(pid_t group) : group_(group) {}

  /* To be asked every kLookMs while the program shows nothing. */
  bool strikes() {
    const auto now = std::chrono::steady_clock::now();
    const int64_t used_ms = processor_ms(group_);
    if (std::abs(used_ms - noted_ms_) >= kHardlyAnyMs) {
      noted_ms_ = used_ms;
      noted_at_ = now;
    }
    const std::chrono::seconds patience(kHangGuardSeconds);
    return std::chrono::milliseconds(used_ms) > patience || now - noted_at_ > patience ||
           now - began_ > 10 * patience; /* one that sleeps and looks, and does so for ever */
  }

 private:
  static constexpr int64_t kHardlyAnyMs = 100;

  const pid_t group_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point noted_at_ = began_;
  int64_t noted_ms_ = 0;
};

/* True when the descriptor is ready before the guard strikes. */
bool wait_ready(int fd, pid_t group) {
  pollfd entry{fd, POLLIN, 0};
  HangGuard guard(group);
  for (;;) {
    const int count = poll(&entry, 1, HangGuard::kLookMs);
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) fail("poll");
    if (count == 0 && guard.strikes()) return false;
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
    if (!wait_ready(output_, pid_)) return "";
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
  HangGuard guard(pid_);
  bool ended = false;
  while (!ended) {
    pollfd entries[2] = {{pid_fd_, POLLIN, 0}, {output_, POLLIN, 0}};
    const int count = poll(entries, output_ >= 0 ? 2 : 1, HangGuard::kLookMs);
    if (count < 0) {
      if (errno != EINTR) fail("poll");
      continue;
    }
    if (count == 0) {
      if (!guard.strikes()) continue;
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
