/* See plugins.h. */
#include "engine/plugins.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

#include <dlfcn.h>

#include "observe/log.h"
#include "settings/environment.h"
#include "system/os.h"
#include "system/text.h"

namespace memlimit {
namespace {

bool load(const char* path) noexcept {
  // Its names are its own (RTLD_LOCAL), and what it lacks is found out now.
  if (dlopen(path, RTLD_NOW | RTLD_LOCAL) != nullptr) return true;
  const char* const reason = dlerror();
  char text[ConfigError::kCap];
  snprintf(text, sizeof text, "MEMLIMIT_PLUGINS: not loaded: %.300s",
           reason != nullptr ? reason : path);
  write_fatal(text);
  return false;
}

/* In the loader's words, so that a missing file is called the same by both. */
bool look_at(const char* path) noexcept {
  const int error = os::check_readable_file(path);
  if (error == 0) return true;
  const char* const reason = error == os::kNoRegularFile ? "Not a file" : errno_words(-error);
  char text[ConfigError::kCap];
  snprintf(text, sizeof text,
           "MEMLIMIT_PLUGINS: not loaded: %.200s: cannot open shared object file: %s", path,
           reason != nullptr ? reason : "Unknown error");
  write_fatal(text);
  return false;
}

/* How many of the paths `good` says no to. */
int count_bad(const Config& config, bool (*good)(const char* path) noexcept) noexcept {
  int failed = 0;
  for (std::string_view rest = config.plugins; !rest.empty();) {
    const std::string_view path = rest.substr(0, rest.find(':'));
    char name[Config::kPluginsCap];
    memcpy(name, path.data(), path.size());
    name[path.size()] = '\0';
    if (!good(name)) ++failed;
    rest.remove_prefix(std::min(path.size() + 1, rest.size()));
  }
  return failed;
}

}  // namespace

int load_plugins(const Config& config) noexcept { return count_bad(config, load); }
int check_plugins(const Config& config) noexcept { return count_bad(config, look_at); }

}  // namespace memlimit
