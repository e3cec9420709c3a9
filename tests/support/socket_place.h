/* Places for the statistics socket inside a directory of the test's own, and what may already live there. */
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "observe/socket_kin.h"
#include "observe/socket_path.h"
#include "support/temp_dir.h"
#include "support/unix_client.h"

namespace memlimit::test {

inline constexpr uid_t kNobody = 65534;

/** Binds on construction, closes in the end; leaves the path to the test. */
struct Bound {
  explicit Bound(const SocketPlace& place) {
    result = bind_stats_socket(place, &socket, error_text, sizeof error_text);
    error = error_text;
  }
  ~Bound() { hang_up(); }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;
  void hang_up() {
    if (socket.fd >= 0) close(socket.fd);
    socket.fd = -1;
  }
  std::string path() const { return socket.path; }

  BoundSocket socket;
  int result;
  std::string error;

 private:
  char error_text[512];
};

/** All default places inside a directory of the test's own. */
struct Roots {
  Roots() : run(dir / "run"), xdg(dir / "xdg"), tmp(dir / "tmp") {
    mkdir(xdg.c_str(), 0700);
    mkdir(tmp.c_str(), 0700);
  }
  SocketPlace place() const {
    SocketPlace place;
    place.run_dir = run;
    place.xdg_runtime_dir = xdg;
    place.tmp_dir = tmp;
    return place;
  }
  std::string own_tmp() const { return tmp + "/memlimit-" + std::to_string(geteuid()); }

  TempDir dir;
  std::string run, xdg, tmp;
};

/** The string must live until the end of the full expression, which a temporary does. */
inline SocketPlace named(std::string_view setting) {
  SocketPlace place;
  place.setting = setting;
  return place;
}

inline std::string own_file(const std::string& suffix = "") {
  return std::string("/").append(std::to_string(getpid())).append(suffix).append(".sock");
}

inline bool exists(const std::string& path) {
  return std::filesystem::exists(std::filesystem::symlink_status(path));
}

inline unsigned mode_of(const std::string& path) {
  struct stat entry {};
  REQUIRE(lstat(path.c_str(), &entry) == 0);
  return entry.st_mode & 07777;
}

inline int listener_at(const std::string& path, bool listening = true) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  if (listening) REQUIRE(listen(fd, 5) == 0);
  return fd;
}

/** Makes this process larger than a wrapper is, while it lives. */
class Large {
 public:
  Large() : held_(static_cast<size_t>(2 * kWrapperMaxBytes), 'x') {}

 private:
  std::string held_;
};

inline void dead_socket_at(const std::string& path) { close(listener_at(path)); }

/** Runs in a child; the test holds when it returns true. */
inline bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

inline int dead_pid() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  return child;
}

inline bool connects(const std::string& path) { return UnixClient(path).connected(); }

inline bool skip_unless_root() {
  if (geteuid() == 0) return false;
  WARN("skipped: needs root, to become another user");
  return true;
}

}  // namespace memlimit::test
