/* Runs a command and says what it used: a line of JSON a run with wall, user and system time, peak
 * RSS, page faults and context switches, of the command and all children it waited for.
 *
 * A program of its own because the peak RSS that wait4() reports starts at the size of the process
 * that called fork: from inside Python every small program would look 10-20 MB large. The
 * environment (LD_PRELOAD too) is changed for the command only.
 *
 * Usage: measure [-n runs] [-o descriptor] [-c cpu] [-e NAME=VALUE]... -- command...
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

struct Options {
  long runs = 1;
  int out = 3;
  int cpu = -1;
  char* environment[64] = {};
  int environment_count = 0;
};

int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1'000'000'000) + now.tv_nsec;
}

int64_t microseconds(const timeval& time) {
  return time.tv_sec * INT64_C(1'000'000) + time.tv_usec;
}

/** In the child: never returns. */
[[noreturn]] void become(const Options& options, char** command) {
  // Whoever ends this process by its pid ends the command as well.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (options.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(options.cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
  }
  for (int i = 0; i < options.environment_count; ++i) putenv(options.environment[i]);
  execvp(command[0], command);
  std::fprintf(stderr, "measure: %s: %s\n", command[0], std::strerror(errno));
  _exit(127);
}

/** Runs it once and writes the line; returns the exit status as a shell shows it. */
int measure(const Options& options, char** command) {
  const int64_t begin_ns = monotonic_ns();
  const pid_t child = fork();
  if (child < 0) {
    std::perror("measure: fork");
    return 126;
  }
  if (child == 0) become(options, command);
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, 0, &usage) < 0) {
    if (errno != EINTR) return 126;
  }
  const int64_t wall_ns = monotonic_ns() - begin_ns;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  dprintf(options.out,
          "{\"wall_ns\": %" PRId64 ", \"user_us\": %" PRId64 ", \"sys_us\": %" PRId64
          ", \"rss_kib\": %ld, \"minor_faults\": %ld, \"major_faults\": %ld"
          ", \"switches\": %ld, \"preempted\": %ld, \"status\": %d}\n",
          wall_ns, microseconds(usage.ru_utime), microseconds(usage.ru_stime), usage.ru_maxrss,
          usage.ru_minflt, usage.ru_majflt, usage.ru_nvcsw, usage.ru_nivcsw, code);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  int option = 0;
  while ((option = getopt(argc, argv, "+n:o:c:e:")) != -1) {
    if (option == 'n') options.runs = std::strtol(optarg, nullptr, 10);
    if (option == 'o') options.out = static_cast<int>(std::strtol(optarg, nullptr, 10));
    if (option == 'c') options.cpu = static_cast<int>(std::strtol(optarg, nullptr, 10));
    if (option == 'e' && options.environment_count < 64) {
      options.environment[options.environment_count++] = optarg;
    }
    if (option == '?') return 2;
  }
  if (optind >= argc) {
    std::fprintf(stderr, "usage: %s [-n runs] [-o fd] [-c cpu] [-e NAME=VALUE]... -- command...\n",
                 argv[0]);
    return 2;
  }
  fcntl(options.out, F_SETFD, FD_CLOEXEC);
  for (long run = 0; run < options.runs; ++run) {
    const int code = measure(options, argv + optind);
    if (code != 0) return code;
  }
  return 0;
}
