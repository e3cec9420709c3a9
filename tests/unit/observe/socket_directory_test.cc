/* A directory with sockets of many processes: neighbours, what they leave, who is locked out. */
#include "observe/socket_directory.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "support/socket_place.h"

namespace fs = std::filesystem;
using memlimit::test::Bound;
using memlimit::test::connects;
using memlimit::test::dead_pid;
using memlimit::test::dead_socket_at;
using memlimit::test::exists;
using memlimit::test::kNobody;
using memlimit::test::listener_at;
using memlimit::test::named;
using memlimit::test::own_file;
using memlimit::test::Roots;
using memlimit::test::TempDir;

TEST_CASE(
    "socket_directory: a live process of the same pid in the same volume is stepped aside for",
    "[socket_directory]") {
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

TEST_CASE("socket_directory: what dead processes left is swept, and nothing else",
          "[socket_directory][fork]") {
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

TEST_CASE("socket_directory: a path with the pid in its name sweeps what others of that name left",
          "[socket_directory][fork]") {
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

TEST_CASE("socket_directory: sweeping finds its way through a large directory",
          "[socket_directory]") {
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

TEST_CASE("socket_directory: somebody who holds the directory's lock cannot keep us out",
          "[socket_directory]") {
  Roots roots;
  mkdir(roots.run.c_str(), 0755);
  const int lock = open(roots.run.c_str(), O_RDONLY | O_DIRECTORY);
  REQUIRE(flock(lock, LOCK_EX) == 0);
  CHECK(Bound(roots.place()).path() == roots.run + own_file());
  close(lock);
}
