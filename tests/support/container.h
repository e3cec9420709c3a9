/* A container for tests of what the process takes from its own: a recorded tree of cgroup v2 as Docker makes it, of which the
 * limit is a share. Test code only. Threads: one.
 */
#pragma once

#include <string>

#include "engine/limit_setting.h"
#include "engine/paced.h"
#include "support/recorded_tree.h"

namespace memlimit::test {

/** The process is in it, with `percent` of its memory as the limit, while the object lives. */
class Container {
 public:
  explicit Container(int percent) {
    directory_.lay_out(read_tree(std::string(MEMLIMIT_TEST_DATA "/cgroup/docker-v2.tree")));
    limit_setting::apply({LimitKind::kPercent, 0, percent}, LimitSource::kEnvironment);
    limit_setting::container().find(directory_.path().c_str());
  }
  ~Container() {
    limit_setting::apply({}, LimitSource::kEnvironment);
    paced::set_group(nullptr);
  }
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  void resize(int64_t bytes) const {
    directory_.write(std::string(kGroup) + "/memory.max", std::to_string(bytes) + "\n");
    limit_setting::refresh();
  }

  /** A file of its group: "/memory.max". */
  std::string path_of(const char* file) const { return directory_.path() + kGroup + file; }
  void remove(const char* file) const { directory_.remove(std::string(kGroup) + file); }

 private:
  static constexpr const char* kGroup = "/sys/fs/cgroup";
  TreeDir directory_;
};

}  // namespace memlimit::test
