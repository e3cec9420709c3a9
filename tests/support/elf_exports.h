/* The names that a shared object exports, read from its dynamic symbol table: what nm -D --defined-only prints, without
 * needing nm. Threads: any. */
#pragma once

#include <set>
#include <string>
#include <vector>

namespace memlimit::test {

struct ElfExports {
  std::set<std::string> functions; /* defined, global or weak; versions left out */
  std::set<std::string> objects;   /* data symbols likewise */
  std::vector<std::string> needed; /* DT_NEEDED, in order */
};

/** Reads a 64-bit shared object of this machine's byte order; throws std::runtime_error on anything else. */
ElfExports read_elf_exports(const std::string& path);

}  // namespace memlimit::test
