/* See php_layout.h. */
#include "runtimes/php_layout.h"

#include <cstring>
#include <initializer_list>
#include <string_view>

namespace memlimit::runtimes::php {
namespace {

constexpr Layout kLayouts[] = {
    {2, 416, 432, 440, 546, 864, 992, 56, 64},
    {4, 416, 432, 440, 550, 936, 1064, 56, 64},
};

constexpr char kPrefix[] = "Zend Engine v4.";

/* The number at the text's beginning, which moves past it; negative: there is none. */
int take_number(const char** text) noexcept {
  constexpr int kMost = 10'000;
  int number = -1;
  for (; **text >= '0' && **text <= '9' && number < kMost; ++*text) {
    number = (number < 0 ? 0 : number) * 10 + (**text - '0');
  }
  return number;
}

/* Whatever its case; the word is written in small letters. */
bool same_word(const char* text, const char* word) noexcept {
  for (; *word != '\0'; ++text, ++word) {
    const char small =
        *text >= 'A' && *text <= 'Z' ? static_cast<char>(*text + ('a' - 'A')) : *text;
    if (small != *word) return false;
  }
  return *text == '\0';
}

const void* pointer_at(const void* base, uint16_t offset) noexcept {
  const void* pointer;
  memcpy(&pointer, static_cast<const char*>(base) + offset, sizeof pointer);
  return pointer;
}

bool is_flag(const void* base, uint16_t offset) noexcept {
  return static_cast<const unsigned char*>(base)[offset] <= 1;
}

}  // namespace

const Layout* layout_of(const char* engine_version) noexcept {
  if (strncmp(engine_version, kPrefix, sizeof kPrefix - 1) != 0) return nullptr;
  const char* rest = engine_version + sizeof kPrefix - 1;
  const int minor = take_number(&rest);
  // What follows the last number of a release candidate is "RC1", of a snapshot "-dev".
  if (*rest++ != '.' || take_number(&rest) < 0 || *rest != ',') return nullptr;
  for (const Layout& layout : kLayouts) {
    if (layout.engine_minor == minor) return &layout;
  }
  return nullptr;
}

bool fits(const Layout& layout, const void* executor, const void* compiler) noexcept {
  const void* const functions = pointer_at(executor, layout.executor_functions);
  const void* const classes = pointer_at(executor, layout.executor_classes);
  return functions != nullptr && classes != nullptr && functions != classes &&
         functions == pointer_at(compiler, layout.compiler_functions) &&
         classes == pointer_at(compiler, layout.compiler_classes) &&
         is_flag(executor, layout.vm_interrupt) && is_flag(executor, layout.active);
}

bool compiles_functions(const char* buffer_size, const char* jit) noexcept {
  if (buffer_size == nullptr || jit == nullptr) return false;
  const std::string_view size = buffer_size;
  if (size.find_first_of("123456789") == size.npos) return false;
  for (const char* const off : {"", "0", "off", "no", "false", "disable"}) {
    if (same_word(jit, off)) return false;
  }
  for (const char* const traces : {"1", "on", "yes", "true", "tracing"}) {
    if (same_word(jit, traces)) return false;
  }
  // Four digits: the third says what is compiled when, and 5 are traces.
  const char* rest = jit;
  const bool four_digits = take_number(&rest) >= 0 && *rest == '\0' && rest - jit == 4;
  return !four_digits || jit[2] != '5';
}

}  // namespace memlimit::runtimes::php
