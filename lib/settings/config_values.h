/* The text of each setting <-> its field in Config: one parser and one renderer for each kind in
 * options.inc. Only config.cc includes this.
 *
 * Answers for: what is accepted, and for what is not, the words "what is wrong: what would be
 * right". Refuses: to look at the environment, to print, to keep a pointer into the text it is
 * given. Pure but for one look at the working directory when a path is relative. No allocation.
 */
#pragma once

#include <initializer_list>
#include <string_view>

#include "settings/config.h"
#include "system/text.h"

namespace memlimit {

enum class Verdict {
  kOk,
  kNotice,  /* accepted, but `why` should be said */
  kBad,     /* `why` says what is wrong and what would be right, ending in '?' or '.' */
  kIgnored, /* accepted, but it names a file and the program is set-user-ID */
};

/** Fills in the option's fields of `config`, which stay as they were unless the verdict is kOk or
 * kNotice. `text` is not empty. */
Verdict parse_value(Option option, std::string_view text, bool secure, Config& config,
                    TextWriter& why) noexcept;

/** The value in force, such that parse_value() reads it back. */
void render_value(const Config& config, Option option, TextWriter& out) noexcept;

/** The candidate closest to `text` in spelling (letter case ignored), or "" when none is close. */
std::string_view nearest(std::string_view text,
                         std::initializer_list<std::string_view> candidates) noexcept;
std::string_view nearest(std::string_view text, const std::string_view* candidates,
                         size_t count) noexcept;

}  // namespace memlimit
