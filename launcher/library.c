/* See library.h. */
#include "library.h"

#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "say.h"

/* Of this program's file, through links. */
static void find_here(char here[PATH_MAX]) {
  const ssize_t length = readlink("/proc/self/exe", here, PATH_MAX - 1);
  if (length <= 0)
    die(kStatusSetting, "%s",
        "cannot find my own file: is /proc mounted? Name the library with --library");
  here[length] = '\0';
  char* const slash = strrchr(here, '/');
  if (slash != NULL) *slash = '\0';
}

static bool is_file(const char* path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool take(const char* here, const char* below, char path[PATH_MAX]) {
  char pattern[PATH_MAX + 64];
  snprintf(pattern, sizeof pattern, "%s/%s", here, below);
  if (strchr(below, '*') == NULL) return is_file(pattern) && realpath(pattern, path) != NULL;
  // The directory of the machine's architecture, whatever it is called.
  glob_t found;
  bool taken = false;
  if (glob(pattern, 0, NULL, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc && !taken; ++i) {
      taken = is_file(found.gl_pathv[i]) && realpath(found.gl_pathv[i], path) != NULL;
    }
  }
  globfree(&found);
  return taken;
}

static void look_around(char path[PATH_MAX]) {
  static const char* const kPlaces[] = {
      "libmemlimit.so",          "../preload/libmemlimit.so", "../lib/*/libmemlimit.so",
      "../lib64/libmemlimit.so", "../lib/libmemlimit.so",
  };
  char here[PATH_MAX];
  find_here(here);
  for (size_t i = 0; i < sizeof kPlaces / sizeof kPlaces[0]; ++i) {
    if (take(here, kPlaces[i], path)) return;
  }
  die(kStatusSetting,
      "libmemlimit.so is neither beside %s nor installed; build it, or name it with --library",
      here);
}

void find_library(const char* named, char path[PATH_MAX]) {
  if (named == NULL) {
    look_around(path);
  } else if (access(named, R_OK) != 0 || realpath(named, path) == NULL) {
    die(kStatusSetting, "cannot read %s", named);
  }
  if (access(path, R_OK) != 0) die(kStatusSetting, "cannot read %s", path);
  if (strpbrk(path, " :\t") != NULL) {
    die(kStatusSetting, "the loader splits LD_PRELOAD at spaces and colons: move %s elsewhere",
        path);
  }
}

static bool lists(const char* list, const char* path) {
  const size_t length = strlen(path);
  for (const char* at = list; (at = strstr(at, path)) != NULL; at += length) {
    const bool begins = at == list || at[-1] == ':' || at[-1] == ' ';
    const char end = at[length];
    if (begins && (end == '\0' || end == ':' || end == ' ')) return true;
  }
  return false;
}

void preload(const char* library) {
  const char* const before = getenv("LD_PRELOAD");
  if (before != NULL && lists(before, library)) return;
  char* list = NULL;
  const bool alone = before == NULL || *before == '\0';
  if (asprintf(&list, "%s%s%s", library, alone ? "" : ":", alone ? "" : before) < 0 ||
      setenv("LD_PRELOAD", list, 1) != 0) {
    die(kStatusSetting, "%s", "no memory for the environment");
  }
  free(list);
}
