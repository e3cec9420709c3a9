/* The text of each setting <-> its field in Config: one parser and one renderer for each kind in
 * options.inc, and the `config` file made of them all.
 *
 * Answers for: what is accepted, and for what is not, the words "what is wrong: what would be
 * right". Refuses: to look at the environment, to print, to keep a pointer into the text it is
 * given. Pure but for one look at the working directory when a path is relative. No allocation.
 */
#pragma once

#include <cstddef>
#include <string_view>

#include "settings/config.h"
#include "settings/value_text.h"
#include "system/text.h"

namespace memlimit {

/** Fills in the option's fields of `config`, which stay as they were if the verdict is kBad or
 * kIgnored. `text` is not empty. */
Verdict parse_value(Option option, std::string_view text, bool secure, Config& config,
                    TextWriter& why) noexcept;

/** MEMLIMIT's value (also what the socket's `limit=` takes), without an environment around it. What is doubtful
 *  fails: whoever asks can ask again. On failure returns false, leaves `out` alone and puts what is wrong, and what would be right, in
 * `why`. */
bool parse_limit(std::string_view text, LimitSetting* out, char* why, size_t why_cap) noexcept;

/** The same for MEMLIMIT_PROFILE's value and the socket's `profile=`: the mean distance in bytes, 0 for off. */
bool parse_profile(std::string_view text, int64_t* out, char* why, size_t why_cap) noexcept;

/** The value in force, such that parse_value() reads it back. */
void render_value(const Config& config, Option option, TextWriter& out) noexcept;

/**
 * The socket's `config` file: a line an option, four columns with spaces between: name, value in
 * force, source (default, environment, invalid, ignored), and for the last two what was written,
 * else "-". Blanks, backslashes and bytes outside printable ASCII inside a column are written \ooo,
 * as in /proc/mounts. An option without effect in this version has "no-effect-in-this-version" as
 * fifth column. Returns the bytes written without the NUL; 4 KiB hold everything but long paths.
 */
size_t render_config(const Config& config, char* out, size_t cap) noexcept;

/** The value in force of one option, as it could be written in the environment. Returns its length.
 */
size_t render_option(const Config& config, Option option, char* out, size_t cap) noexcept;

}  // namespace memlimit
