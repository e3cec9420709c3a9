/* Sizes as people write them and as people read them: "512MiB" <-> bytes.
 *
 * Answers for: Go's GOMEMLIMIT grammar to the letter, a guess at what a near miss meant, and
 * figures for log lines. Refuses to accept a near miss: "512MB" may mean two things, so the guess
 * is only ever shown. Pure: any thread, any context, no allocation.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace memlimit {

enum class SizeError {
  kNone,
  kEmpty,    /* no text at all */
  kGrammar,  /* not a number with B, KiB, MiB, GiB, TiB or nothing */
  kOverflow, /* well formed, but more than 2^63 - 1 bytes */
};

/**
 * Bytes of `^[0-9]+(([KMGT]i)?B)?$`; no unit means bytes. Like Go, "-0" is 0: the one text it takes
 * beyond that grammar. `error` (may be null) is set in every case.
 */
std::optional<int64_t> parse_size(std::string_view text, SizeError* error) noexcept;

/**
 * What `bad` may have been meant to be, for "did you mean ...?": one size, or two where SI and
 * binary units differ ("512MB": "512MiB or 488MiB"). Every size it names passes parse_size().
 * Returns the bytes written without the NUL; 0 and "" when there is no good guess.
 */
size_t suggest_size(std::string_view bad, char* out, size_t cap) noexcept;

/**
 * For people: at most four significant digits and a space before the unit: "301 MiB", "1.46 GiB",
 * "512 MiB", "0 B". Returns the bytes written without the NUL.
 */
size_t format_size(int64_t bytes, char* out, size_t cap) noexcept;

/**
 * For settings: the shortest exact text, which parse_size() reads back: "512MiB", "1025KiB",
 * "1000B". Negative values are written as 0B. Returns the bytes written without the NUL.
 */
size_t format_size_exact(int64_t bytes, char* out, size_t cap) noexcept;

}  // namespace memlimit
