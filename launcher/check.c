/* See check.h. */
#include "check.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"

extern char** environ;

/* This one variable gets a value of the check's own, so what it has already is looked at here. */
static void check_strictness(void) {
  static const char* const kWords[] = {"",    "on", "1",  "yes",   "true",
                                       "off", "0",  "no", "false", "check"};
  const char* const word = getenv("MEMLIMIT_STRICT");
  if (word == NULL) return;
  for (size_t i = 0; i < sizeof kWords / sizeof kWords[0]; ++i) {
    if (strcmp(word, kWords[i]) == 0) return;
  }
  die(kStatusSetting,
      "MEMLIMIT_STRICT=\"%s\" is none of on, off and check: write on, off or check. The program is "
      "not started",
      word);
}

/* In the child: the library alone, with the command's settings. */
__attribute__((noreturn)) static void become_check(const char* loader, const char* library,
                                                   int out) {
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  if (out > STDERR_FILENO) close(out);
  unsetenv("LD_PRELOAD");
  setenv("MEMLIMIT_STRICT", "check", 1);
  char* const arguments[] = {(char*)loader, (char*)library, NULL};
  execve(loader, arguments, environ);
  dprintf(STDERR_FILENO, "%s: %s", loader, strerror(errno));
  _exit(kStatusNotFound);
}

/* All of it that fits; what comes after is read and dropped, so that the writer ends. */
static void read_all(int fd, char* text, size_t cap) {
  size_t length = 0;
  char rest[512];
  for (;;) {
    const bool fits = length + 1 < cap;
    const ssize_t got =
        fits ? read(fd, text + length, cap - 1 - length) : read(fd, rest, sizeof rest);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (fits) length += (size_t)got;
  }
  text[length] = '\0';
}

/* What this process inherited is the command's, too. Where a child's end is ignored nobody can wait for it. */
static struct sigaction expect_children(void) {
  const struct sigaction by_default = {.sa_handler = SIG_DFL};
  struct sigaction inherited;
  sigaction(SIGCHLD, &by_default, &inherited);
  return inherited;
}

static int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return status;
}

/* "memlimit[123]: ..." as this program's own. */
static void complain_lines(char* text) {
  static const char kPrefix[] = "memlimit[";
  for (char* line = text; line != NULL && *line != '\0';) {
    char* const end = strchr(line, '\n');
    if (end != NULL) *end = '\0';
    char* const colon =
        strncmp(line, kPrefix, sizeof kPrefix - 1) == 0 ? strstr(line, "]: ") : NULL;
    complain("%s", colon == NULL ? line : colon + 3);
    line = end == NULL ? NULL : end + 1;
  }
}

/* The last line is the limit; before it the library may have warned. */
static int64_t limit_of(const char* text) {
  const size_t length = strlen(text);
  size_t begin = length;
  while (begin > 0 && !(begin < length && text[begin - 1] == '\n')) --begin;
  char* end = NULL;
  errno = 0;
  const long long bytes = strtoll(text + begin, &end, 10);
  return errno == 0 && end != text + begin && *end == '\n' && bytes >= 0 ? bytes : -1;
}

int64_t check_settings(const char* loader, const char* library) {
  check_strictness();
  int ends[2];
  if (pipe(ends) != 0) die(kStatusSetting, "cannot check the settings: %s", strerror(errno));
  const struct sigaction inherited = expect_children();
  const pid_t child = fork();
  if (child < 0) die(kStatusSetting, "cannot check the settings: %s", strerror(errno));
  if (child == 0) {
    close(ends[0]);
    become_check(loader, library, ends[1]);
  }
  close(ends[1]);
  static char said[16384];
  read_all(ends[0], said, sizeof said);
  close(ends[0]);
  const int status = wait_for(child);
  sigaction(SIGCHLD, &inherited, NULL);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kStatusSetting) {
    complain_lines(said);
    exit(kStatusSetting);
  }
  const int64_t bytes = limit_of(said);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || bytes < 0) {
    said[strcspn(said, "\n")] = '\0';
    die(kStatusSetting, "%s cannot be loaded by %s: %s", library, loader,
        said[0] != '\0' ? said : "it ended without a word");
  }
  return bytes;
}
