/* Starts other programs for tests of real processes: with exactly the environment given, no descriptors but the three
 * standard ones, output caught, and a guard against hanging.
 *
 * Answers for: what the child printed and how it ended. Refuses to interpret either. The child leads a process group
 * of its own, so that the guard ends nothing but what the test started. Threads: one at a time per object.
 */
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace memlimit::test {

/** What to run. */
struct Command {
  std::string program; /* path of the executable */
  std::vector<std::string> arguments = {};
  std::vector<std::string> environment = {}; /* NAME=value, the whole of it */
  std::string directory = "/";
};

/** How it went. */
struct Outcome {
  int status = -1;   /* exit status, or minus the number of the signal that ended it */
  bool hung = false; /* killed by the guard */
  std::string out;
  std::string err;
};

/** The guard strikes when hardly any processor time was used for so long, or so much of it in all. Also how long one answer
 *  is waited for. */
inline constexpr int kHangGuardSeconds = 120;

/** A program that runs beside the test. Standard input is a pipe; standard output can be read by the line. */
class Child {
 public:
  /** Starts the program; throws std::system_error when that fails. */
  explicit Child(const Command& command);
  /** Kills what still runs. */
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }

  /** The next line of standard output without its newline; "" at the end or when the guard strikes. */
  std::string read_line();

  void close_input();

  void send_signal(int number);

  /** Closes standard input, waits for the end and collects the rest. */
  Outcome wait();

 private:
  pid_t pid_ = -1;
  int pid_fd_ = -1, input_ = -1, output_ = -1, error_ = -1;
  std::string unread_;
};

/** Starts a program with an empty standard input and waits for it. */
Outcome run(const Command& command);

}  // namespace memlimit::test
