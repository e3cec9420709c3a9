/* See elf_exports.h. */
#include "elf_exports.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace memlimit::test {
namespace {

template <typename Type>
Type at(const std::string& image, size_t offset) {
  if (offset > image.size() || image.size() - offset < sizeof(Type))
    throw std::runtime_error("truncated ELF file");
  Type value;
  memcpy(&value, image.data() + offset, sizeof value);
  return value;
}

std::string string_at(const std::string& image, const Elf64_Shdr& strings, size_t offset) {
  const size_t begin = strings.sh_offset + offset;
  const size_t end = image.find('\0', begin);
  if (end == std::string::npos) throw std::runtime_error("unterminated name in ELF file");
  return image.substr(begin, end - begin);
}

}  // namespace

ElfExports read_elf_exports(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto header = at<Elf64_Ehdr>(image, 0);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
    throw std::runtime_error(path + " is not a 64-bit ELF file");

  std::vector<Elf64_Shdr> sections;
  for (size_t i = 0; i < header.e_shnum; ++i)
    sections.push_back(at<Elf64_Shdr>(image, header.e_shoff + i * header.e_shentsize));
  ElfExports exports;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type == SHT_DYNSYM) {
      for (size_t offset = 0; offset < section.sh_size; offset += sizeof(Elf64_Sym)) {
        const auto symbol = at<Elf64_Sym>(image, section.sh_offset + offset);
        const int binding = ELF64_ST_BIND(symbol.st_info), type = ELF64_ST_TYPE(symbol.st_info);
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS) continue;
        if (binding != STB_GLOBAL && binding != STB_WEAK && binding != STB_GNU_UNIQUE) continue;
        if (ELF64_ST_VISIBILITY(symbol.st_other) == STV_HIDDEN) continue;
        const std::string name = string_at(image, sections.at(section.sh_link), symbol.st_name);
        (type == STT_FUNC || type == STT_GNU_IFUNC ? exports.functions : exports.objects)
            .insert(name);
      }
    }
    if (section.sh_type == SHT_DYNAMIC) {
      for (size_t offset = 0; offset < section.sh_size; offset += sizeof(Elf64_Dyn)) {
        const auto entry = at<Elf64_Dyn>(image, section.sh_offset + offset);
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_NEEDED)
          exports.needed.push_back(
              string_at(image, sections.at(section.sh_link), entry.d_un.d_val));
      }
    }
  }
  return exports;
}

}  // namespace memlimit::test
