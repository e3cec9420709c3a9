/* A tree of /proc and cgroup files kept as one text file, and a temporary directory to lay it out in.
 *
 * Format of a .tree file: lines beginning with '#' say what it shows; "expect <key> <value>" lines
 * say what must be found in it; "== <path>" begins a file, whose content is every line up to the
 * next one. The trees follow real layouts line by line; ids and sizes are made up. Test code only:
 * allocates and throws as it likes.
 */
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

#include "support/temp_dir.h"

namespace memlimit::test {

struct RecordedTree {
  std::string name;
  std::map<std::string, std::string> expect;
  std::map<std::string, std::string> files;
};

inline RecordedTree read_tree(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  RecordedTree tree{path.stem().string(), {}, {}};
  std::string* content = nullptr;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("== ", 0) == 0) {
      content = &tree.files[line.substr(3)];
    } else if (content != nullptr) {
      *content += line + "\n";
    } else if (line.rfind("expect ", 0) == 0) {
      const size_t space = line.find(' ', 7);
      tree.expect[line.substr(7, space - 7)] = line.substr(space + 1);
    }
  }
  return tree;
}

inline std::vector<RecordedTree> read_trees(const std::filesystem::path& directory) {
  std::vector<RecordedTree> trees;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".tree") trees.push_back(read_tree(entry.path()));
  }
  return trees;
}

/** A directory that files of a tree are laid out in. */
class TreeDir : public TempDir {
 public:
  // In memory where possible: a disk's file system flushes each file that is written over.
  TreeDir() : TempDir(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") {}

  void write(const std::string& file, const std::string& content) const {
    const std::filesystem::path full = path() + file;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full, std::ios::binary | std::ios::trunc) << content;
  }
  void remove(const std::string& file) const { std::filesystem::remove_all(path() + file); }
  void lay_out(const RecordedTree& tree) const {
    for (const auto& [file, content] : tree.files) write(file, content);
  }
};

}  // namespace memlimit::test
