/* See plugins.h. */
#include "plugins.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

#include <dlfcn.h>

#include "log.h"

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

}  // namespace

int load_plugins(const Config& config) noexcept {
  int failed = 0;
  for (std::string_view rest = config.plugins; !rest.empty();) {
    const std::string_view path = rest.substr(0, rest.find(':'));
    char name[Config::kPluginsCap];
    memcpy(name, path.data(), path.size());
    name[path.size()] = '\0';
    if (!load(name)) ++failed;
    rest.remove_prefix(std::min(path.size() + 1, rest.size()));
  }
  return failed;
}

}  // namespace memlimit
