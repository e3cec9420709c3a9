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

static bool look_around(const char* here, const char* const* places, size_t count,
                        char path[PATH_MAX]) {
  for (size_t i = 0; i < count; ++i) {
    if (take(here, places[i], path)) return true;
  }
  return false;
}

static void find_for_glibc(const char* here, char path[PATH_MAX]) {
  static const char* const kPlaces[] = {
      "libmemlimit.so",          "../preload/libmemlimit.so", "../lib/*/libmemlimit.so",
      "../lib64/libmemlimit.so", "../lib/libmemlimit.so",
  };
  if (look_around(here, kPlaces, sizeof kPlaces / sizeof kPlaces[0], path)) return;
  die(kStatusSetting,
      "libmemlimit.so is neither beside %s nor installed; build it, or name it with --library",
      here);
}

static void find_for_musl(const char* here, const char* image, char path[PATH_MAX]) {
  static const char* const kPlaces[] = {
      "libmemlimit-musl.so",          "../preload/musl/libmemlimit-musl.so",
      "../lib/*/libmemlimit-musl.so", "../lib64/libmemlimit-musl.so",
      "../lib/libmemlimit-musl.so",
  };
  if (look_around(here, kPlaces, sizeof kPlaces / sizeof kPlaces[0], path)) return;
  die(kStatusSetting,
      "%s is built for musl, and libmemlimit-musl.so is neither beside %s nor installed. The "
      "program is not started",
      image, here);
}

/* "/lib/ld-musl-x86_64.so.1". */
static bool is_musl(const char* loader) {
  static const char kName[] = "ld-musl-";
  const char* const slash = strrchr(loader, '/');
  return strncmp(slash == NULL ? loader : slash + 1, kName, sizeof kName - 1) == 0;
}

void find_library(const char* named, const char* loader, const char* image, char path[PATH_MAX]) {
  if (named == NULL) {
    char here[PATH_MAX];
    find_here(here);
    if (is_musl(loader)) {
      find_for_musl(here, image, path);
    } else {
      find_for_glibc(here, path);
    }
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

static bool is_named(const char* path, size_t length, const char* name) {
  const size_t rest = strlen(name);
  return length > rest && path[length - rest - 1] == '/' &&
         memcmp(path + length - rest, name, rest) == 0;
}

/* A program of the other libc, under its own library, may have started this one, whose loader would end at that. */
static void drop_other_libcs(const char* library, char* list) {
  const bool musl = is_named(library, strlen(library), "libmemlimit-musl.so");
  const char* const other = musl ? "libmemlimit.so" : "libmemlimit-musl.so";
  char* kept = list;
  for (const char* word = list; *word != '\0';) {
    const size_t length = strcspn(word, ": ");
    const size_t step = length + (word[length] == '\0' ? 0 : 1);
    if (!is_named(word, length, other)) {
      memmove(kept, word, step);
      kept += step;
    }
    word += step;
  }
  *kept = '\0';
}

void preload(const char* library) {
  char* const before = getenv("LD_PRELOAD"); /* this process's own, to be written to */
  if (before != NULL) drop_other_libcs(library, before);
  if (before != NULL && lists(before, library)) return;
  char* list = NULL;
  const bool alone = before == NULL || *before == '\0';
  if (asprintf(&list, "%s%s%s", library, alone ? "" : ":", alone ? "" : before) < 0 ||
      setenv("LD_PRELOAD", list, 1) != 0) {
    die(kStatusSetting, "%s", "no memory for the environment");
  }
  free(list);
}
