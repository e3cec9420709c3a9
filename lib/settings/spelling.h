/* Which word somebody meant who wrote another: the guess behind "did you mean ...?".
 *
 * Refuses to decide: a guess is only ever shown. Pure: any thread, any context, no allocation.
 */
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string_view>

namespace memlimit {

/** The candidate closest to `text` in spelling (letter case ignored), or "" when none is close. */
std::string_view nearest(std::string_view text,
                         std::initializer_list<std::string_view> candidates) noexcept;
std::string_view nearest(std::string_view text, const std::string_view* candidates,
                         size_t count) noexcept;

}  // namespace memlimit
