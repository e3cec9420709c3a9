/* One parser and one renderer for each kind of value in options.inc, which also declares them:
 *
 *   Verdict parse_<kind>(text, secure, config, why): as parse_value()
 *   void render_<kind>(config, out): as render_value()
 *
 * limit_values.cc has those of amounts and shares of memory, path_values.cc those that name files,
 * signal_values.cc the signal's, and simple_values.cc all that take a word, a flag or a number.
 * Only config_values.cc calls them. Pure but for one look at the working directory when a path is relative.
 */
#pragma once

#include <string_view>

#include "settings/config.h"
#include "settings/value_text.h"
#include "system/text.h"

namespace memlimit::kinds {

#define MEMLIMIT_OPTION(id, name, kind, unit, fallback, state, sentence)   \
  Verdict parse_##kind(std::string_view text, bool secure, Config& config, \
                       TextWriter& why) noexcept;                          \
  void render_##kind(const Config& config, TextWriter& out) noexcept;
#include "settings/options.inc"
#undef MEMLIMIT_OPTION

/** MEMLIMIT's without a Config around it. `text` may be empty. `limit` is not changed for kBad. */
Verdict parse_limit_text(std::string_view text, LimitSetting& limit, TextWriter& why) noexcept;

/** The same for MEMLIMIT_PROFILE's; 0: off. */
Verdict parse_profile_text(std::string_view text, int64_t& interval_bytes,
                           TextWriter& why) noexcept;

}  // namespace memlimit::kinds
