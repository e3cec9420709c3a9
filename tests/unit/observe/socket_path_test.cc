/* Where the socket goes, what is in the way, and what must never be touched on the way there. */
#include "observe/socket_path.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/temp_dir.h"
#include "support/unix_client.h"

namespace fs = std::filesystem;
using memlimit::bind_stats_socket;
using memlimit::BoundSocket;
using memlimit::check_socket_setting;
using memlimit::SocketPlace;
using memlimit::unlink_stats_socket;
using memlimit::test::TempDir;
using memlimit::test::UnixClient;

namespace {

constexpr uid_t kNobody = 65534;

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
SocketPlace named(std::string_view setting) {
  SocketPlace place;
  place.setting = setting;
  return place;
}

std::string own_file(const std::string& suffix = "") {
  return std::string("/").append(std::to_string(getpid())).append(suffix).append(".sock");
}

bool exists(const std::string& path) { return fs::exists(fs::symlink_status(path)); }

unsigned mode_of(const std::string& path) {
  struct stat entry {};
  REQUIRE(lstat(path.c_str(), &entry) == 0);
  return entry.st_mode & 07777;
}

int listener_at(const std::string& path, bool listening = true) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  if (listening) REQUIRE(listen(fd, 5) == 0);
  return fd;
}

void dead_socket_at(const std::string& path) { close(listener_at(path)); }

/** Runs in a child; the test holds when it returns true. */
bool in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int dead_pid() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  return child;
}

bool connects(const std::string& path) { return UnixClient(path).connected(); }

bool skip_unless_root() {
  if (geteuid() == 0) return false;
  WARN("skipped: needs root, to become another user");
  return true;
}

}  // namespace

TEST_CASE("socket_path: a setting is expanded, and its faults are named", "[socket_path]") {
  TempDir dir;
  utsname host{};
  uname(&host);
  {
    const std::string setting = dir / "a-%p-%h-%%.sock";
    Bound bound(named(setting));
    REQUIRE(bound.result == 0);
    CHECK(bound.path() ==
          dir / ("a-" + std::to_string(getpid()) + "-" + std::string(host.nodename) + "-%.sock"));
    CHECK(connects(bound.path()));
  }
  char error[256];
  CHECK(check_socket_setting("", error, sizeof error));
  CHECK(check_socket_setting("x%p", error, sizeof error));
  for (const char* bad : {"/x/%q", "/x/%", "%%%"}) {
    CAPTURE(bad);
    CHECK_FALSE(check_socket_setting(bad, error, sizeof error));
    CHECK(std::string(error).find("means nothing; %p is the pid") != std::string::npos);
  }
  CHECK(check_socket_setting("/" + std::string(106, 'x'), error, sizeof error));
  CHECK_FALSE(check_socket_setting("/" + std::string(107, 'x'), error, sizeof error));
  CHECK(std::string(error) == "the path has 108 bytes, and a socket's can have 107");
  CHECK_FALSE(check_socket_setting(std::string_view("/x\0y", 4), error, sizeof error));
}

TEST_CASE("socket_path: a path of the longest length can be bound and connected to",
          "[socket_path]") {
  TempDir dir;
  const std::string path = dir / std::string(107 - dir.path().size() - 1, 'x');
  REQUIRE(path.size() == 107);
  Bound bound(named(path));
  CHECK(bound.result == 0);
  CHECK(bound.path() == path);
  CHECK(exists(path));
  Bound longer(named(path + "x"));
  CHECK(longer.result == -EINVAL);
}

TEST_CASE("socket_path: a relative setting becomes absolute", "[socket_path]") {
  TempDir dir;
  CHECK(in_child([&] {
    if (chdir(dir.path().c_str()) != 0) return false;
    Bound bound(named("here.sock"));
    return bound.result == 0 && bound.path() == dir / "here.sock" && connects(bound.path());
  }));
}

TEST_CASE("socket_path: a directory gets a file named for the pid", "[socket_path]") {
  TempDir dir;
  Bound existing(named(dir.path()));
  REQUIRE(existing.result == 0);
  CHECK(existing.path() == dir.path() + own_file());

  const std::string fresh = dir / "fresh";
  Bound made(named(fresh + "//"));
  REQUIRE(made.result == 0);
  CHECK(made.path() == fresh + own_file());
  CHECK(mode_of(fresh) == 0700);

  const std::string setting = dir / "open/";
  SocketPlace open = named(setting);
  open.mode = 0666;
  Bound shared(open);
  REQUIRE(shared.result == 0);
  CHECK(mode_of(dir / "open") == 0755);
}

TEST_CASE("socket_path: the file has its final mode whatever the umask", "[socket_path]") {
  TempDir dir;
  for (const mode_t mask : {mode_t{0}, mode_t{022}, mode_t{0777}}) {
    const mode_t before = umask(mask);
    const std::string path = dir / std::string("m").append(std::to_string(mask));
    Bound bound(named(path));
    const std::string open_path = dir / std::string("o").append(std::to_string(mask));
    SocketPlace open = named(open_path);
    open.mode = 0644;
    Bound readable(open);
    umask(before);
    REQUIRE(bound.result == 0);
    CHECK(mode_of(path) == 0600);
    REQUIRE(readable.result == 0);
    CHECK(mode_of(open_path) == 0666);  // who may read must be able to connect
  }
}

TEST_CASE("socket_path: a missing directory is an error that says so", "[socket_path]") {
  TempDir dir;
  Bound bound(named(dir / "no/such.sock"));
  CHECK(bound.result == -ENOENT);
  CHECK(bound.error.find("its directory does not exist") != std::string::npos);
  CHECK(bound.socket.fd == -1);
  CHECK(bound.path().empty());
}

TEST_CASE("socket_path: only a dead socket of ours is replaced", "[socket_path]") {
  TempDir dir;
  const std::string path = dir / "s";
  SECTION("a dead socket") {
    dead_socket_at(path);
    Bound bound(named(path));
    CHECK(bound.result == 0);
    CHECK(connects(path));
  }
  SECTION("a live one") {
    const int live = listener_at(path);
    Bound bound(named(path));
    CHECK(bound.result == -EADDRINUSE);
    CHECK(bound.error.find("is in use by process " + std::to_string(getpid()) + "; put %p") !=
          std::string::npos);
    CHECK(connects(path));
    close(live);
  }
  SECTION("a live one with a full backlog") {
    const int live = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    REQUIRE(bind(live, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(live, 0) == 0);
    UnixClient waiting(path);
    UnixClient refused(path);
    REQUIRE(refused.connect_error() == EAGAIN);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(exists(path));
    close(live);
  }
  SECTION("a regular file") {
    std::ofstream(path) << "precious";
    Bound bound(named(path));
    CHECK(bound.result == -EADDRINUSE);
    CHECK(bound.error.find("is not a dead socket of this user; it is left alone") !=
          std::string::npos);
    std::string content;
    std::ifstream(path) >> content;
    CHECK(content == "precious");
  }
  SECTION("a link to nowhere") {
    fs::create_symlink(dir / "elsewhere", path);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(fs::is_symlink(path));
    CHECK_FALSE(exists(dir / "elsewhere"));
  }
  SECTION("a link to a dead socket") {
    dead_socket_at(dir / "elsewhere");
    fs::create_symlink(dir / "elsewhere", path);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(exists(dir / "elsewhere"));
  }
  SECTION("a dead socket of somebody else") {
    if (skip_unless_root()) return;
    dead_socket_at(path);
    REQUIRE(chown(path.c_str(), kNobody, kNobody) == 0);
    CHECK(Bound(named(path)).result == -EADDRINUSE);
    CHECK(exists(path));
  }
}

TEST_CASE("socket_path: of many processes that want one path, one gets it", "[socket_path][fork]") {
  TempDir dir;
  for (int round = 0; round < 5; ++round) {
    const std::string path = dir / std::string("s").append(std::to_string(round));
    if (round % 2 == 0) dead_socket_at(path);
    int ready[2], go[2];
    REQUIRE(pipe(ready) == 0);
    REQUIRE(pipe(go) == 0);
    constexpr int kChildren = 8;
    std::vector<pid_t> children;
    for (int i = 0; i < kChildren; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        close(go[1]);
        Bound bound(named(path));
        const char outcome = bound.result == 0 ? 'w' : bound.result == -EADDRINUSE ? 'l' : '?';
        if (write(ready[1], &outcome, 1) != 1) _exit(1);
        char end;
        _exit(read(go[0], &end, 1) == 0 ? 0 : 1);  // hold the socket until all have tried
      }
      children.push_back(child);
    }
    std::string outcomes;
    for (char outcome; outcomes.size() < kChildren && read(ready[0], &outcome, 1) == 1;) {
      outcomes += outcome;
    }
    CHECK(std::count(outcomes.begin(), outcomes.end(), 'w') == 1);
    CHECK(std::count(outcomes.begin(), outcomes.end(), 'l') == kChildren - 1);
    CHECK(connects(path));
    for (const int fd : {ready[0], ready[1], go[0], go[1]}) close(fd);
    for (const pid_t child : children) waitpid(child, nullptr, 0);
  }
}

TEST_CASE("socket_path: default places are tried in order", "[socket_path]") {
  Roots roots;
  SECTION("the run directory, made if need be") {
    Bound bound(roots.place());
    REQUIRE(bound.result == 0);
    CHECK(bound.path() == roots.run + own_file());
    CHECK(mode_of(roots.run) == 0755);
    CHECK(mode_of(bound.path()) == 0600);
  }
  SECTION("then $XDG_RUNTIME_DIR") {
    SocketPlace place = roots.place();
    place.run_dir = "/proc/no/such";
    Bound bound(place);
    REQUIRE(bound.result == 0);
    CHECK(bound.path() == roots.xdg + "/memlimit" + own_file());
    CHECK(mode_of(roots.xdg + "/memlimit") == 0700);
  }
  SECTION("then a directory of the user's under /tmp") {
    SocketPlace place = roots.place();
    place.run_dir = "/proc/no/such";
    place.xdg_runtime_dir = "";
    Bound bound(place);
    REQUIRE(bound.result == 0);
    CHECK(bound.path() == roots.own_tmp() + own_file());
    CHECK(mode_of(roots.own_tmp()) == 0700);
  }
  SECTION("then an abstract name") {
    SocketPlace place;
    place.run_dir = place.tmp_dir = "/proc/no/such";
    Bound bound(place);
    REQUIRE(bound.result == 0);
    CHECK(bound.path() == "@memlimit/" + std::to_string(getpid()));
    CHECK(bound.socket.abstract);
    CHECK(connects(bound.path()));
    Bound twin(place);
    REQUIRE(twin.result == 0);
    CHECK(twin.path() == bound.path() + "-2");
    CHECK(connects(twin.path()));
  }
}

TEST_CASE("socket_path: a trap in a default place is stepped over", "[socket_path]") {
  Roots roots;
  TempDir elsewhere;
  SocketPlace place = roots.place();
  const auto path = [&] { return Bound(place).path(); };
  SECTION("run directory: a link") {
    fs::create_symlink(elsewhere.path(), roots.run);
    CHECK(path().starts_with(roots.xdg));
  }
  SECTION("run directory: a file") {
    std::ofstream(roots.run) << "x";
    CHECK(path().starts_with(roots.xdg));
  }
  SECTION("run directory: some other user's") {
    if (skip_unless_root()) return;
    mkdir(roots.run.c_str(), 0777);
    REQUIRE(chown(roots.run.c_str(), kNobody, kNobody) == 0);
    CHECK(path().starts_with(roots.xdg));
  }
  SECTION("XDG: relative, writable by others, or another user's") {
    place.run_dir = "/proc/no/such";
    const std::string own = roots.own_tmp();
    place.xdg_runtime_dir = "xdg";
    CHECK(path().starts_with(own));
    place.xdg_runtime_dir = roots.xdg;
    chmod(roots.xdg.c_str(), 0770);
    CHECK(path().starts_with(own));
    chmod(roots.xdg.c_str(), 0700);
    if (geteuid() == 0) {
      REQUIRE(chown(roots.xdg.c_str(), kNobody, kNobody) == 0);
      CHECK(path().starts_with(own));
    }
  }
  SECTION("XDG: its memlimit is a link") {
    place.run_dir = "/proc/no/such";
    fs::create_symlink(elsewhere.path(), roots.xdg + "/memlimit");
    CHECK(path().starts_with(roots.own_tmp()));
  }
  SECTION("tmp: the name is taken by a link, a file, a lax directory, or somebody else's") {
    place.run_dir = "/proc/no/such";
    place.xdg_runtime_dir = "";
    fs::create_symlink(elsewhere.path(), roots.own_tmp());
    CHECK(path().starts_with("@"));
    fs::remove(roots.own_tmp());
    std::ofstream(roots.own_tmp()) << "x";
    CHECK(path().starts_with("@"));
    fs::remove(roots.own_tmp());
    mkdir(roots.own_tmp().c_str(), 0755);
    CHECK(path().starts_with("@"));
    chmod(roots.own_tmp().c_str(), 0700);
    CHECK(path().starts_with(roots.own_tmp()));
    if (geteuid() == 0) {
      REQUIRE(chown(roots.own_tmp().c_str(), kNobody, kNobody) == 0);
      CHECK(path().starts_with("@"));
    }
  }
  SECTION("tmp: anybody can swap what is in it") {
    place.run_dir = "/proc/no/such";
    place.xdg_runtime_dir = "";
    chmod(roots.tmp.c_str(), 0777);
    CHECK(path().starts_with("@"));
    chmod(roots.tmp.c_str(), 01777);
    CHECK(path().starts_with(roots.own_tmp()));
  }
  CHECK(fs::is_empty(elsewhere.path()));
}

TEST_CASE("socket_path: a live process of the same pid in the same volume is stepped aside for",
          "[socket_path]") {
  Roots roots;
  mkdir(roots.run.c_str(), 0755);
  const int other = listener_at(roots.run + own_file());
  Bound second(roots.place());
  REQUIRE(second.result == 0);
  CHECK(second.path() == roots.run + own_file("-2"));
  Bound third(roots.place());
  CHECK(third.path() == roots.run + own_file("-3"));
  CHECK(connects(roots.run + own_file()));
  close(other);
  // What a former process of this pid left is simply replaced.
  Bound first(roots.place());
  CHECK(first.path() == roots.run + own_file());
}

TEST_CASE("socket_path: what dead processes left is swept, and nothing else",
          "[socket_path][fork]") {
  Roots roots;
  mkdir(roots.run.c_str(), 0755);
  const auto in_run = [&](const std::string& name) { return roots.run + "/" + name; };
  const std::string dead = std::to_string(dead_pid());
  const std::string parent = std::to_string(getppid());

  // To be swept.
  dead_socket_at(in_run(dead + ".sock"));
  dead_socket_at(in_run(dead + "-2.sock"));
  // To be kept: alive by pid, alive by connect, not ours to judge, not sockets.
  std::vector<std::string> kept = {parent + ".sock",
                                   dead + "-3.sock",
                                   "name.sock",
                                   dead + ".sock.old",
                                   "0" + dead + ".sock",
                                   dead + "-.sock",
                                   "99999999999999999999.sock",
                                   ".sock",
                                   dead + "-5.sock",
                                   dead + "-6.sock",
                                   "target"};
  dead_socket_at(in_run(parent + ".sock"));
  const int elsewhere = listener_at(in_run(dead + "-3.sock"));  // a pid of another namespace
  for (const char* name : {"name.sock", "99999999999999999999.sock", ".sock", "target"}) {
    dead_socket_at(in_run(name));
  }
  dead_socket_at(in_run(dead + ".sock.old"));
  dead_socket_at(in_run("0" + dead + ".sock"));
  dead_socket_at(in_run(dead + "-.sock"));
  std::ofstream(in_run(dead + "-5.sock")) << "x";
  fs::create_symlink(in_run("target"), in_run(dead + "-6.sock"));
  if (geteuid() == 0) {
    dead_socket_at(in_run(dead + "-7.sock"));
    REQUIRE(lchown(in_run(dead + "-7.sock").c_str(), kNobody, kNobody) == 0);
    kept.push_back(dead + "-7.sock");
  }

  Bound bound(roots.place());
  REQUIRE(bound.result == 0);
  CHECK_FALSE(exists(in_run(dead + ".sock")));
  CHECK_FALSE(exists(in_run(dead + "-2.sock")));
  for (const std::string& name : kept) {
    CAPTURE(name);
    CHECK(exists(in_run(name)));
  }
  close(elsewhere);
}

TEST_CASE("socket_path: a path with the pid in its name sweeps what others of that name left",
          "[socket_path][fork]") {
  TempDir dir;
  const std::string dead = std::to_string(dead_pid());
  const std::string parent = std::to_string(getppid());
  const std::vector<std::string> swept = {"svc-" + dead + ".sock"};
  const std::vector<std::string> kept = {
      dead + ".sock",
      "other-" + dead + ".sock",
      "svc-" + dead + "-2.sock",
      "svc-" + dead,
      "svc-0" + dead + ".sock",
      "svc-.sock",
      "svc-" + parent + ".sock",
      "svc-" + dead + ".sock.old",
  };
  const auto leave_them = [&] {
    for (const auto* names : {&swept, &kept}) {
      for (const std::string& name : *names) {
        unlink((dir / name).c_str());
        dead_socket_at(dir / name);
      }
    }
  };
  const auto left_by = [&](const std::string& setting) {
    leave_them();
    Bound bound(named(dir / setting));
    CHECK(bound.result == 0);
    for (const std::string& name : kept) {
      CAPTURE(name);
      CHECK(exists(dir / name));
    }
    return exists(dir / swept.front());
  };
  CHECK_FALSE(left_by("svc-%p.sock"));
  // The pid cannot be told from the digits beside it, is in another component, or is not there at all.
  CHECK(left_by("svc-1%p.sock"));
  CHECK(left_by("svc-%p1.sock"));
  mkdir((dir / std::to_string(getpid())).c_str(), 0700);
  CHECK(left_by("%p/svc-.sock"));
  CHECK(left_by("svc-x.sock"));
}

TEST_CASE("socket_path: sweeping finds its way through a large directory", "[socket_path]") {
  Roots roots;
  mkdir(roots.run.c_str(), 0755);
  for (int i = 0; i < 600; ++i) {
    std::ofstream(roots.run + "/a-file-that-is-none-of-ours-" + std::to_string(i)) << "";
  }
  const std::string dead = roots.run + "/" + std::to_string(dead_pid()) + ".sock";
  dead_socket_at(dead);
  Bound bound(roots.place());
  CHECK(bound.result == 0);
  CHECK_FALSE(exists(dead));
}

TEST_CASE("socket_path: somebody who holds the directory's lock cannot keep us out",
          "[socket_path]") {
  Roots roots;
  mkdir(roots.run.c_str(), 0755);
  const int lock = open(roots.run.c_str(), O_RDONLY | O_DIRECTORY);
  REQUIRE(flock(lock, LOCK_EX) == 0);
  CHECK(Bound(roots.place()).path() == roots.run + own_file());
  close(lock);
}

TEST_CASE("socket_path: only the very socket that was bound is removed", "[socket_path]") {
  TempDir dir;
  const std::string path = dir / "s";
  Bound bound(named(path));
  REQUIRE(bound.result == 0);
  SECTION("still there") {
    unlink_stats_socket(bound.socket);
    CHECK_FALSE(exists(path));
  }
  SECTION("replaced by a file") {
    fs::remove(path);
    std::ofstream(path) << "x";
    unlink_stats_socket(bound.socket);
    CHECK(exists(path));
  }
  SECTION("replaced by another process's socket") {
    fs::rename(path, dir / "moved");
    const int other = listener_at(path);
    unlink_stats_socket(bound.socket);
    CHECK(exists(path));
    close(other);
  }
  SECTION("replaced by a link to it") {
    fs::rename(path, dir / "moved");
    fs::create_symlink(dir / "moved", path);
    unlink_stats_socket(bound.socket);
    CHECK(exists(path));
    CHECK(exists(dir / "moved"));
  }
  unlink_stats_socket(BoundSocket{});
}

TEST_CASE("socket_path: a user without rights anywhere still gets an abstract name",
          "[socket_path][fork]") {
  if (skip_unless_root()) return;
  Roots roots;
  mkdir(roots.run.c_str(), 0755);
  CHECK(in_child([&] {
    if (setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0) {
      return false;
    }
    Bound bound(roots.place());
    return bound.result == 0 && bound.socket.abstract;
  }));
  Bound named_bound(named(roots.run + "/x"));
  CHECK(named_bound.result == 0);
  CHECK(in_child([&] {
    if (setresuid(kNobody, kNobody, kNobody) != 0) return false;
    const std::string path = roots.run + "/y";
    Bound bound(named(path));
    return bound.result == -EACCES && bound.error.find("may not write") != std::string::npos;
  }));
}

TEST_CASE("socket_path: descriptors stay out of the program's way and errno as it was",
          "[socket_path]") {
  TempDir dir;
  const int lowest = dup(0);
  close(lowest);
  const std::string path = dir / "s";
  dead_socket_at(path);
  errno = 4711;
  Bound bound(named(path));
  CHECK(errno == 4711);
  REQUIRE(bound.result == 0);
  CHECK(fcntl(bound.socket.fd, F_GETFD) == FD_CLOEXEC);
  CHECK((fcntl(bound.socket.fd, F_GETFL) & O_NONBLOCK) != 0);
  CHECK(bound.socket.fd > lowest + 64);
  const int next = dup(0);
  CHECK(next == lowest);
  close(next);
}
