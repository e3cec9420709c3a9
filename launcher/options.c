/* See options.h. */
#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

static const char kUsage[] =
    "Usage: memlimit-run [-l LIMIT] [OPTION]... [--] COMMAND [ARGUMENT]...\n"
    "\n"
    "Runs COMMAND with a soft limit for its heap. Each option sets the variable beside it; "
    "settings that are\n"
    "already in the environment are kept, and checked too.\n"
    "\n"
    "  -l, --limit=LIMIT      MEMLIMIT           512MiB (B, KiB, MiB, GiB, TiB or bytes), 80% of "
    "the\n"
    "                                            container's memory, auto, or off\n"
    "      --start=PERCENT    MEMLIMIT_START     usage at which reclaim begins (50%)\n"
    "      --growth=PERCENT   MEMLIMIT_GROWTH    also reclaim when usage has grown by this much "
    "(off)\n"
    "      --account=WHAT     MEMLIMIT_ACCOUNT   heap, rss, cgroup or auto: which number is "
    "limited\n"
    "      --socket=PATH      MEMLIMIT_SOCKET    statistics socket: a path, a directory, auto or "
    "off\n"
    "      --adapters=NAMES   MEMLIMIT_ADAPTERS  language runtimes to reclaim from: auto, none, or "
    "a list\n"
    "      --log=LEVEL[:PATH] MEMLIMIT_LOG       off, error, warn, info or debug, and a file\n"
    "      --report=SECONDS   MEMLIMIT_REPORT    log heap and limit this often\n"
    "      --profile=BYTES    MEMLIMIT_PROFILE   sample the heap by site: on, off, or how often\n"
    "      --library=PATH                        the library to load, instead of looking for it\n"
    "  -h, --help                                this text\n"
    "      --version                             the version\n"
    "\n"
    "A Go program gets GOMEMLIMIT, too, unless it is set. Status: 78 a bad setting or no usable "
    "library, 64 a\n"
    "wrong option, 127 COMMAND not found, 126 found but not executable; otherwise that of COMMAND. "
    "See memlimit(7).\n";

static const struct {
  const char* name;
  const char* variable; /* null: --library */
} kOptions[] = {
    {"--limit", "MEMLIMIT"},           {"--start", "MEMLIMIT_START"},
    {"--growth", "MEMLIMIT_GROWTH"},   {"--account", "MEMLIMIT_ACCOUNT"},
    {"--socket", "MEMLIMIT_SOCKET"},   {"--adapters", "MEMLIMIT_ADAPTERS"},
    {"--log", "MEMLIMIT_LOG"},         {"--report", "MEMLIMIT_REPORT"},
    {"--profile", "MEMLIMIT_PROFILE"}, {"--library", NULL},
};

static bool is_name(const char* name, const char* word, size_t length) {
  return strlen(name) == length && memcmp(name, word, length) == 0;
}

/* An empty setting is to the library an unset one; an option that is given must say something. */
static void set_option(struct options* options, const char* word, size_t length,
                       const char* value) {
  const bool is_short = length == 2 && memcmp(word, "-l", 2) == 0;
  for (size_t i = 0; i < sizeof kOptions / sizeof kOptions[0]; ++i) {
    if (!(is_short && i == 0) && !is_name(kOptions[i].name, word, length)) continue;
    if (value == NULL || *value == '\0') {
      die(kStatusSetting, "option %.*s needs a value", (int)length, word);
    }
    if (kOptions[i].variable == NULL) {
      options->library = value;
    } else if (setenv(kOptions[i].variable, value, 1) != 0) {
      die(kStatusSetting, "%s", "no memory for the environment");
    }
    return;
  }
  die(kStatusUsage, "unknown option %.*s (try --help)", (int)length, word);
}

struct options read_options(char** argv) {
  struct options options = {NULL, argv[0] == NULL ? argv : argv + 1};
  for (char** word = options.command; *word != NULL; ++word) {
    const char* const text = *word;
    options.command = word;
    if (text[0] != '-' || text[1] == '\0') return options;
    options.command = word + 1;
    if (strcmp(text, "--") == 0) break;
    if (strcmp(text, "-h") == 0 || strcmp(text, "--help") == 0) {
      dprintf(STDOUT_FILENO, "%s", kUsage);
      exit(0);
    }
    if (strcmp(text, "--version") == 0) {
      dprintf(STDOUT_FILENO, "memlimit-run %s\n", MEMLIMIT_VERSION);
      exit(0);
    }
    const char* const equals = strchr(text, '=');
    if (text[1] == '-' && equals != NULL) {
      set_option(&options, text, (size_t)(equals - text), equals + 1);
    } else if (text[1] == 'l' && text[2] != '\0') {
      set_option(&options, text, 2, text + 2);
    } else {
      set_option(&options, text, strlen(text), word[1]);
      ++word;
      options.command = word + 1;
    }
  }
  if (*options.command == NULL) {
    complain("%s", "no command");
    dprintf(STDERR_FILENO, "%s", kUsage);
    exit(kStatusUsage);
  }
  return options;
}
