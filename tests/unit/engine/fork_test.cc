/* The table of fork's parts: its order, and forks in the middle of a fork, as a signal handler makes them. */
#include "engine/fork.h"

#include <string>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "engine/thread_state.h"

namespace fork_parts = memlimit::fork;
using memlimit::this_thread;

namespace {

/* What happened, a letter each: of the first part in lower case, of the second in upper case. */
constinit char seen[64] = {};
constinit size_t seen_count = 0;
constinit bool forks_inside = false; /* the second part's hold() forks */
constinit int inner_status = 0;

void note(char letter) noexcept {
  if (seen_count < sizeof seen - 1) seen[seen_count++] = letter;
}

/* The status of a child that runs `in_child` and ends with what it returns. */
template <typename Function>
int fork_and_run(Function in_child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(in_child() ? 0 : 1);
  int status = -1;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
  return status;
}

void hold_second() noexcept {
  note('H');
  if (!forks_inside) return;
  forks_inside = false;
  inner_status = fork_and_run([] { return std::string(seen) == "hHrR"; });
  note('|');
}

constexpr fork_parts::Part kFirst{"first", []() noexcept { note('h'); },
                                  []() noexcept { note('l'); }, []() noexcept { note('r'); }};
constexpr fork_parts::Part kSecond{"second", hold_second, []() noexcept { note('L'); },
                                   []() noexcept { note('R'); }};
constexpr fork_parts::Part kNothing{"nothing"};
constexpr const fork_parts::Part* kParts[] = {&kFirst, &kNothing, &kSecond};

/* Handlers stay registered: they are of no use to other tests, and of no harm. */
void begin() {
  static const bool registered = [] {
    // Where libc knows of no other thread, nothing is held.
    std::thread([] {}).join();
    fork_parts::register_handlers(kParts, sizeof kParts / sizeof kParts[0]);
    return true;
  }();
  REQUIRE(registered);
  for (char& letter : seen) letter = '\0';
  seen_count = 0;
}

}  // namespace

TEST_CASE("fork: parts are held in order, let go of in reverse, begun anew in order", "[fork]") {
  begin();
  const int depth = this_thread.guard_depth;
  const int status =
      fork_and_run([&] { return std::string(seen) == "hHrR" && this_thread.guard_depth == depth; });
  CHECK(status == 0);
  CHECK(std::string(seen) == "hHLl");
  CHECK(this_thread.guard_depth == depth);
}

TEST_CASE("fork: one in the middle of another holds nothing twice", "[fork]") {
  begin();
  const int depth = this_thread.guard_depth;
  forks_inside = true;
  const int status = fork_and_run([] { return std::string(seen) == "hH|rR"; });
  CHECK(inner_status == 0);
  CHECK(status == 0);
  CHECK(std::string(seen) == "hH|Ll");
  CHECK(this_thread.guard_depth == depth);
}

TEST_CASE("fork: whoever is inside the gate is waited for, within bounds", "[fork]") {
  {
    const fork_parts::Inside inside;
    REQUIRE(static_cast<bool>(inside));
    CHECK(fork_parts::inside_here == 1);
    // The thread that forks does not wait for itself.
    fork_parts::close_gate();
    CHECK(fork_parts::gate().is_closed());
    const fork_parts::Inside kept_out;
    CHECK_FALSE(static_cast<bool>(kept_out));
    CHECK(fork_parts::gate().open());
  }
  CHECK(fork_parts::inside_here == 0);
  CHECK_FALSE(fork_parts::gate().is_closed());
}
