/* What the parsers of settings share: their verdict, the words of a complaint, numbers and endings.
 *
 * Answers for: every complaint reads "is WHAT: did you mean GUESS?" or "is WHAT: RIGHT.". Refuses to know any
 * setting. Pure: any thread, any context, no allocation.
 */
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "system/text.h"

namespace memlimit {

enum class Verdict {
  kOk,
  kNotice, /* accepted, but `why` should be said */
  kDoubtful, /* accepted where `why` can only be said, and refused where somebody is there to answer */
  kBad,      /* `why` says what is wrong and what would be right, ending in '?' or '.' */
  kIgnored, /* accepted, but it names a file and the program is set-user-ID */
};

namespace kinds {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool one_of(std::string_view text, std::initializer_list<std::string_view> words) noexcept;

/** Digits only, and no more than `max`. */
std::optional<int64_t> read_number(std::string_view text, int64_t max) noexcept;

/** "%", if it is there, taken off. */
bool take_suffix(std::string_view& text, std::string_view suffix) noexcept;

/** "is WHAT: did you mean GUESS?", or "is WHAT: RIGHT." when there is no guess. */
Verdict bad(TextWriter& why, std::string_view what, std::string_view guess,
            std::string_view right) noexcept;

/** A percentage that was written otherwise: "80 %", "0.8", "80percent". 0 when it was none. */
int guess_percent(std::string_view text) noexcept;

/** bad(), with the percentage that `text` may have meant, up to `max`, as the guess. */
Verdict bad_percent(TextWriter& why, std::string_view text, int max,
                    std::string_view right) noexcept;

}  // namespace kinds
}  // namespace memlimit
