/* The list of settings: a number for each row of options.inc, and what the row says.
 *
 * Answers for: one place that knows how many settings there are and what they are called. Refuses to know
 * their values (config.h). Pure: any thread, any context.
 */
#pragma once

#include <string_view>

namespace memlimit {

/** One value for each row of options.inc, in its order. */
enum class Option : int {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) id,
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
};

inline constexpr int kOptionCount = [] {
  int count = 0;
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) ++count;
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
  return count;
}();

/** Their names, in that order. */
inline constexpr std::string_view kOptionNames[] = {
#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence) name,
#include "settings/options.inc"
#undef MEMLIMIT_OPTION
};

/** "MEMLIMIT_START"; its default as text; its sentence; whether it does something in this version.
 */
const char* option_name(Option option) noexcept;
const char* option_default(Option option) noexcept;
const char* option_sentence(Option option) noexcept;
bool option_has_effect(Option option) noexcept;

}  // namespace memlimit
