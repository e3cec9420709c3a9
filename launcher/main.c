/* memlimit-run - starts a command with libmemlimit.so loaded into it and its children.
 *
 * Has the library check every setting first and refuses to start on a bad one (status 78), where a program that loads the
 * library by itself would run without it. Keeps what LD_PRELOAD names already, prints nothing, and execs: no process
 * stays. Linked statically, so that it runs where nothing else is: in an image without a shell, as its first process.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "library.h"
#include "options.h"
#include "program.h"
#include "say.h"

extern char** environ;

/* Where a static program's children may come from, and what the settings are checked by: the loader of this machine's
 * ordinary programs. */
static const char* default_loader(void) {
#if defined __x86_64__
  static const char kLoader[] = "/lib64/ld-linux-x86-64.so.2";
  static const char kLoaderOfMusl[] = "/lib/ld-musl-x86_64.so.1";
#elif defined __aarch64__
  static const char kLoader[] = "/lib/ld-linux-aarch64.so.1";
  static const char kLoaderOfMusl[] = "/lib/ld-musl-aarch64.so.1";
#else
#error "which loader do this machine's programs name?"
#endif
  if (access(kLoader, X_OK) == 0) return kLoader;
  return access(kLoaderOfMusl, X_OK) == 0 ? kLoaderOfMusl : NULL;
}

/* A program of another machine would run without the library, and the loader write a line of its own. */
static void check_machine(const struct program* program, const char* library) {
  struct program other;
  memset(&other, 0, sizeof other);
  if (!look_into(library, &other))
    die(kStatusSetting, "%s cannot be loaded: it is no library", library);
  if (!program->is_elf || program->is_static) return;
  if (program->elf_class != other.elf_class || program->machine != other.machine) {
    die(kStatusSetting,
        "%s is not for the kind of machine that %s is for. The program is not started",
        program->image, library);
  }
}

/* Go's runtime has a limit of its own, which is the better one for its heap; a child of this program's gets its own. */
static void hand_to_go(const struct program* program, int64_t limit_bytes) {
  if (!program->is_go || limit_bytes == 0 || getenv("GOMEMLIMIT") != NULL) return;
  char bytes[32];
  snprintf(bytes, sizeof bytes, "%" PRId64, limit_bytes);
  setenv("GOMEMLIMIT", bytes, 1);
}

static void tell_of_what_is_not_reached(const struct program* program) {
  if (program->is_privileged) {
    complain("%s is set-user-ID: the loader keeps the limit out of it", program->image);
  } else if (program->is_static && program->is_go && getenv("GOMEMLIMIT") != NULL) {
    complain("%s is a static Go program: GOMEMLIMIT=%s holds it, without statistics",
             program->image, getenv("GOMEMLIMIT"));
  } else if (program->is_static) {
    complain("%s is a static program: the limit is for what it starts, not for itself",
             program->image);
  }
}

/* As bash tells programs from scripts: a shell that reads another machine's code runs commands that nobody wrote. */
static bool is_text(const char* path) {
  char line[256];
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t got = fd < 0 ? -1 : read(fd, line, sizeof line);
  if (fd >= 0) close(fd);
  if (got < 0) return false;
  const char* const end = memchr(line, '\n', (size_t)got);
  return memchr(line, '\0', end == NULL ? (size_t)got : (size_t)(end - line)) == NULL;
}

/* A file that the kernel does not know is a script without its first line, as for a shell. */
__attribute__((noreturn)) static void become_script(const struct program* program, char** command) {
  size_t count = 0;
  while (command[count] != NULL) ++count;
  char** const words = calloc(count + 2, sizeof *words);
  if (words == NULL) die(kStatusNotExecutable, "%s", "no memory for the command");
  words[0] = (char*)"sh";
  words[1] = (char*)program->path;
  memcpy(words + 2, command + 1, count * sizeof *words);
  execve("/bin/sh", words, environ);
  die(kStatusNotExecutable, "/bin/sh, for %s: %s", program->path, strerror(errno));
}

__attribute__((noreturn)) static void become(const struct program* program, char** command) {
  execve(program->path, command, environ);
  const int error = errno;
  if (error == ENOEXEC && !program->is_elf && is_text(program->path))
    become_script(program, command);
  die(error == ENOENT ? kStatusNotFound : kStatusNotExecutable, "%s: %s", program->path,
      strerror(error));
}

int main(int argc, char** argv) {
  (void)argc;
  const struct options options = read_options(argv);
  static struct program program;
  find_program(options.command[0], &program);
  const char* const loader = program.loader[0] != '\0' ? program.loader : default_loader();
  static char library[PATH_MAX];
  find_library(options.library, loader == NULL ? "" : loader, program.image, library);
  check_machine(&program, library);
  // Where there is no loader at all, nothing that is started could be limited.
  const int64_t limit_bytes = loader == NULL ? 0 : check_settings(loader, library);
  hand_to_go(&program, limit_bytes);
  tell_of_what_is_not_reached(&program);
  preload(library);
  become(&program, options.command);
}
