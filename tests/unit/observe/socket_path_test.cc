/* Where the socket goes, and what must never be touched on the way there. */
#include "observe/socket_path.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_place.h"

namespace fs = std::filesystem;
using memlimit::SocketPlace;
using memlimit::test::Bound;
using memlimit::test::connects;
using memlimit::test::dead_socket_at;
using memlimit::test::exists;
using memlimit::test::in_child;
using memlimit::test::kNobody;
using memlimit::test::Large;
using memlimit::test::mode_of;
using memlimit::test::named;
using memlimit::test::own_file;
using memlimit::test::Roots;
using memlimit::test::skip_unless_root;
using memlimit::test::TempDir;

TEST_CASE("socket_path: the setting is expanded for this process", "[socket_path]") {
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

TEST_CASE("socket_path: a missing directory is an error that says so", "[socket_path]") {
  TempDir dir;
  Bound bound(named(dir / "no/such.sock"));
  CHECK(bound.result == -ENOENT);
  CHECK(bound.error.find("its directory does not exist") != std::string::npos);
  CHECK(bound.socket.fd == -1);
  CHECK(bound.path().empty());
}

namespace {

struct Check {
  int result = 0;
  std::string error;
};

Check check(std::string_view setting) {
  char error[256] = {};
  const int result = memlimit::check_stats_socket(named(setting), error, sizeof error);
  return {result, error};
}

}  // namespace

TEST_CASE("socket_path: a check finds what would be in the way, and makes nothing",
          "[socket_path]") {
  TempDir dir;
  for (const std::string& good : {dir / "s.sock", dir / "%p.sock", dir / "fresh/", dir.path()}) {
    INFO(good);
    CHECK(check(good).result == 0);
  }
  CHECK(check("").result == 0);
  CHECK_FALSE(exists(dir / "s.sock"));
  CHECK_FALSE(exists(dir / "fresh"));

  const Check missing = check(dir / "no/such.sock");
  CHECK(missing.result == -ENOENT);
  CHECK(missing.error.find("its directory does not exist; make it first") != std::string::npos);
  CHECK(check(dir / "no/such/").result == -ENOENT);

  std::ofstream(dir / "file") << "x";
  CHECK(check(dir / "file").result == -EADDRINUSE);
  CHECK(check(dir / "file/").result == -ENOTDIR);
  CHECK(check(dir / "file/s.sock").result == -ENOTDIR);
  dead_socket_at(dir / "dead.sock");
  CHECK(check(dir / "dead.sock").result == 0);
  CHECK(exists(dir / "dead.sock"));
}

TEST_CASE("socket_path: a path that one of the family has is told from a stranger's",
          "[socket_path][fork]") {
  TempDir dir;
  const std::string path = dir / "s.sock";
  Bound bound(named(path));
  REQUIRE(bound.result == 0);
  const int parent = getpid();
  const Large here;  // so that it keeps what it has
  CHECK(in_child([&] {
    Bound second(named(path));
    return second.result == -EALREADY && second.socket.holder_pid == parent &&
           second.error.find("is in use by process " + std::to_string(parent) +
                             " of the same family") != std::string::npos &&
           check(path).result == 0 && !named_place_is_free(named(path), parent);
  }));
  CHECK(connects(path));
  unlink(path.c_str());
  CHECK(in_child([&] { return named_place_is_free(named(path), parent); }));
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
