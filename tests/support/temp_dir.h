/* A directory of a test's own under the system's temporary one, removed with all it holds. */
#pragma once

#include <filesystem>
#include <string>

#include <stdlib.h>

namespace memlimit::test {

class TempDir {
 public:
  TempDir() {
    char pattern[] = "/tmp/memlimit-test-XXXXXX";
    path_ = mkdtemp(pattern);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace memlimit::test
