#include "observe/socket_directory.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <ctime>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "observe/socket_name.h"
#include "system/folder.h"
#include "system/os.h"

namespace memlimit {
namespace {

constexpr int kMaxSweepProbes = 256;
constexpr int kLockAttempts = 20;
constexpr timespec kLockPause{0, 2'000'000};

/** The pid in a name of ours; 0 for any other name. */
int pid_of_name(const SocketNames& names, std::string_view name) noexcept {
  const auto digits = [&name] {
    const size_t count = std::min(name.find_first_not_of("0123456789"), name.size());
    const std::string_view found = name.substr(0, count);
    name.remove_prefix(count);
    return found;
  };
  if (name.substr(0, names.prefix.size()) != names.prefix) return 0;
  name.remove_prefix(names.prefix.size());
  int64_t pid = 0;
  const std::string_view pid_digits = digits();
  for (const char digit : pid_digits) {
    if (pid <= INT32_MAX) pid = pid * 10 + (digit - '0');
  }
  if (pid_digits.empty() || pid_digits.front() == '0' || pid > INT32_MAX) return 0;
  if (names.may_have_twins && !name.empty() && name.front() == '-') {
    name.remove_prefix(1);
    if (digits().empty()) return 0;
  }
  return name == names.suffix ? static_cast<int>(pid) : 0;
}

void sweep_entry(std::string_view directory, const SocketNames& names, const char* name,
                 int* probes) noexcept {
  const int pid = pid_of_name(names, name);
  if (pid == 0 || pid == os::process_id()) return;
  if (kill(pid, 0) == 0 || errno != ESRCH) return;
  SocketPath path;
  SocketPathWriter(&path).put(directory).put("/").put(name);
  if (!path.fits() || ++*probes > kMaxSweepProbes) return;
  struct stat found {};
  int peer_pid = 0;
  if (probe_socket(path.text, &found, &peer_pid) != Occupant::kDead) return;
  unlink_if_same(path.text, found.st_dev, found.st_ino);
}

}  // namespace

DirectoryLock::DirectoryLock(int directory) noexcept : directory_(directory) {
  for (int attempt = 0; attempt < kLockAttempts && !held_; ++attempt) {
    if (attempt > 0) nanosleep(&kLockPause, nullptr);
    held_ = flock(directory, LOCK_EX | LOCK_NB) == 0;
    if (!held_ && errno != EWOULDBLOCK && errno != EINTR) return;
  }
}

// Unlocked by hand: a child forked meanwhile has the descriptor too, and would hold the lock on.
DirectoryLock::~DirectoryLock() {
  if (held_) flock(directory_, LOCK_UN);
}

void sweep_sockets(int directory, std::string_view path, const SocketNames& names) noexcept {
  struct Sweep {
    std::string_view path;
    const SocketNames& names;
    int probes = 0;
  } sweep{path, names};
  os::for_each_name(
      directory,
      [](const char* name, void* arg) {
        auto& [folder, known, probes] = *static_cast<Sweep*>(arg);
        sweep_entry(folder, known, name, &probes);
        return probes <= kMaxSweepProbes;
      },
      &sweep);
}

int bind_in_directory(int directory, std::string_view path, unsigned mode,
                      BoundSocket* out) noexcept {
  const DirectoryLock lock(directory);
  if (lock.held()) sweep_sockets(directory, path, SocketNames{});  // else somebody is at it already
  int result = -EADDRINUSE;
  for (int twin = 1; twin <= kMaxTwins && result == -EADDRINUSE; ++twin) {
    SocketPath file;
    SocketPathWriter writer(&file);
    writer.put(path).put("/").put_number(os::process_id());
    if (twin > 1) writer.put("-").put_number(twin);
    writer.put(".sock");
    if (!file.fits()) return -ENAMETOOLONG;
    Occupant occupant;
    int peer_pid = 0;
    result = bind_replacing_dead(file.text, mode, out, &occupant, &peer_pid);
  }
  return result;
}

int open_directory(const char* path, int no_follow) noexcept {
  return os::move_fd_high(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | no_follow));
}

int make_directory(const char* path, mode_t mode, int no_follow) noexcept {
  const bool made = mkdir(path, mode) == 0;
  const int fd = open_directory(path, no_follow);
  if (made && fd >= 0) fchmod(fd, mode);
  return fd;
}

}  // namespace memlimit
