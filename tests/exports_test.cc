/* The names that libmemlimit.so exports, against preload/exports.map and against the malloc families of the libraries it
 * stands in front of. One forgotten name means a pointer of one allocator freed by another, so the families are
 * found in glibc, libmimalloc and libstdc++ as they are on this machine, not listed here. */
#include <dlfcn.h>
#include <link.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <catch2/catch.hpp>

#include "support/elf_exports.h"

using memlimit::test::ElfExports;
using memlimit::test::read_elf_exports;
using Names = std::set<std::string>;

namespace {

/* Path of a library as the loader finds it for this process. */
std::string path_of_library(const std::string& name) {
  void* handle = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) return "";
  const link_map* map = nullptr;
  const bool found = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0;
  return found ? map->l_name : "";
}

Names missing(const Names& wanted, const Names& present) {
  Names result;
  for (const std::string& name : wanted) {
    if (present.count(name) == 0) result.insert(name);
  }
  return result;
}

/* The names after `global:` in a version script, comments taken out. Patterns are not allowed in ours. */
Names names_in_map(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  std::string script = std::regex_replace(text.str(), std::regex("/\\*[^]*?\\*/|#[^\n]*"), " ");
  Names names;
  bool global = false;
  std::regex token("[A-Za-z_0-9.*?]+\\s*[:;]");
  for (std::sregex_iterator it(script.begin(), script.end(), token), end; it != end; ++it) {
    std::string word = it->str();
    const char mark = word.back();
    word.erase(word.find_first_of(" \t\n:;"));
    if (mark == ':') {
      global = word == "global";
    } else if (global) {
      names.insert(word);
    }
  }
  return names;
}

ElfExports library() { return read_elf_exports(PRELOAD_LIBRARY); }

}  // namespace

TEST_CASE("exports: the library exports exactly what exports.map lists", "[exports]") {
  const Names listed = names_in_map(PRELOAD_EXPORTS_MAP);
  const ElfExports exports = library();
  REQUIRE(listed.size() > 40);
  for (const std::string& name : listed) {
    INFO(name);
    CHECK(name.find_first_of("*?") == std::string::npos);
  }
  Names present = exports.functions;
  present.insert(exports.objects.begin(), exports.objects.end());
  CHECK(missing(listed, present) == Names{});
  CHECK(missing(present, listed) == Names{});
  CHECK(exports.objects == Names{"malloc_message"});
}

TEST_CASE("exports: glibc's malloc family is covered", "[exports]") {
  const std::string path = path_of_library("libc.so.6");
  REQUIRE(path != "");
  const ElfExports libc = read_elf_exports(path);
  /* Whatever allocates, frees or reports on malloc's heap by its name ... */
  const std::regex family(
      "(__libc_|__)?(malloc|calloc|realloc|reallocarray|reallocf|free|cfree|memalign|posix_"
      "memalign|aligned_alloc|valloc|"
      "pvalloc|free_sized|free_aligned_sized|mallinfo2?|mallopt|malloc_.*)");
  /* ... but for what no program can reach: malloc_get_state and malloc_set_state, for emacs before 26, have no
   * symbol to link to any more, and __libc_reallocarray is private to glibc and calls realloc by name. */
  const Names left_out = {"malloc_get_state", "malloc_set_state", "__libc_reallocarray"};
  Names wanted;
  for (const std::string& name : libc.functions) {
    if (std::regex_match(name, family) && left_out.count(name) == 0) wanted.insert(name);
  }
  REQUIRE(wanted.count("malloc") == 1);
  REQUIRE(wanted.count("__libc_memalign") == 1);
  REQUIRE(wanted.size() >= 20);
  CHECK(missing(wanted, library().functions) == Names{});
}

TEST_CASE("exports: names that later C libraries and programs expect are there", "[exports]") {
  const Names wanted = {"free_sized", "free_aligned_sized", "mallinfo2", "reallocarray",
                        "cfree",      "malloc_info"};
  CHECK(missing(wanted, library().functions) == Names{});
}

TEST_CASE("exports: whatever libmimalloc would answer in place of libc, the library answers",
          "[exports]") {
  /* libmimalloc is in the process too. A name of its that is not ours would give out blocks nobody counts. */
  std::string path;
  for (const std::string& name : library().needed) {
    if (name.rfind("libmimalloc.so", 0) == 0) path = path_of_library(name);
  }
  REQUIRE(path != "");
  const ElfExports mimalloc = read_elf_exports(path);
  /* libc comes before it and takes the blocks from malloc: preload/libc_allocates_for_the_caller.c. */
  const Names left_to_libc = {"strdup", "strndup"};
  Names wanted;
  for (const std::string& name : mimalloc.functions) {
    if (left_to_libc.count(name) != 0) continue;
    if (name.rfind("mi_", 0) == 0 || name.rfind("_mi_", 0) == 0 || name == "_init" ||
        name == "_fini")
      continue;
    wanted.insert(name);
  }
  REQUIRE(wanted.count("malloc") == 1);
  CHECK(missing(wanted, library().functions) == Names{});
}

TEST_CASE("exports: jemalloc's functions for blocks and questions are there, all or none",
          "[exports]") {
  /* A program that finds one calls the others, and a real jemalloc may be in the process, too. malloc_conf is the
   * program's to define. */
  const ElfExports exports = library();
  const Names functions = {"mallctl", "mallctlnametomib", "mallctlbymib", "malloc_stats_print",
                           "mallocx", "rallocx",          "xallocx",      "sallocx",
                           "dallocx", "sdallocx",         "nallocx"};
  CHECK(missing(functions, exports.functions) == Names{});
  CHECK(exports.objects.count("malloc_conf") == 0);
}

TEST_CASE("exports: every replaceable operator new and delete is there", "[exports]") {
  const std::string path = path_of_library("libstdc++.so.6");
  REQUIRE(path != "");
  const ElfExports cpp = read_elf_exports(path);
  const std::regex replaceable("_Z(n|d)[wal].*");
  Names wanted;
  for (const std::string& name : cpp.functions) {
    if (std::regex_match(name, replaceable)) wanted.insert(name);
  }
  REQUIRE(wanted.size() >= 20);
  CHECK(missing(wanted, library().functions) == Names{});
  /* And nothing that is not replaceable: an exported placement new would be called in place of the program's. */
  Names surplus;
  for (const std::string& name : library().functions) {
    if (name.rfind("_Z", 0) == 0 && wanted.count(name) == 0) surplus.insert(name);
  }
  CHECK(surplus == Names{});
}

TEST_CASE("exports: the whole C interface of memlimit.h is there", "[exports]") {
  std::ifstream file(PRELOAD_HEADER);
  std::stringstream text;
  text << file.rdbuf();
  const std::string header = text.str();
  const std::regex declaration("MEMLIMIT_API [a-z0-9_]+ (memlimit_[a-z_]+)\\(");
  Names wanted;
  for (std::sregex_iterator it(header.begin(), header.end(), declaration), end; it != end; ++it)
    wanted.insert((*it)[1].str());
  REQUIRE(wanted.size() == 9);
  CHECK(missing(wanted, library().functions) == Names{});
}

TEST_CASE("exports: the library needs only libc and libmimalloc", "[exports]") {
  const std::regex allowed("libc\\.so\\.6|libm\\.so\\.6|ld-linux.*|libmimalloc\\.so\\..*");
  for (const std::string& name : library().needed) {
    INFO(name);
    CHECK(std::regex_match(name, allowed));
  }
}
