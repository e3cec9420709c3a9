#include "settings/value_text.h"

namespace memlimit::kinds {

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) noexcept {
  for (const std::string_view word : words) {
    if (text == word) return true;
  }
  return false;
}

std::optional<int64_t> read_number(std::string_view text, int64_t max) noexcept {
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    if (value > (max - (c - '0')) / 10) return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

bool take_suffix(std::string_view& text, std::string_view suffix) noexcept {
  if (text.size() < suffix.size() || text.substr(text.size() - suffix.size()) != suffix) {
    return false;
  }
  text.remove_suffix(suffix.size());
  return true;
}

Verdict bad(TextWriter& why, std::string_view what, std::string_view guess,
            std::string_view right) noexcept {
  why.put("is ").put(what).put(": ");
  if (guess.empty()) {
    why.put(right).put('.');
  } else {
    why.put("did you mean ").put(guess).put('?');
  }
  return Verdict::kBad;
}

int guess_percent(std::string_view text) noexcept {
  int value = 0;
  size_t at = 0;
  if (text.substr(0, 2) == "0." || text.substr(0, 1) == ".") {
    at = text[0] == '.' ? 1 : 2;
    int scale = 10;
    for (; at < text.size() && is_digit(text[at]) && scale > 0; ++at, scale /= 10) {
      value += (text[at] - '0') * scale;
    }
    return at == text.size() ? value : 0;
  }
  for (; at < text.size() && is_digit(text[at]) && value <= 100; ++at) {
    value = value * 10 + (text[at] - '0');
  }
  while (at < text.size() && text[at] == ' ') ++at;
  const std::string_view rest = text.substr(at);
  return at > 0 && one_of(rest, {"%", "percent", " percent", "pct", "%%"}) ? value : 0;
}

Verdict bad_percent(TextWriter& why, std::string_view text, int max,
                    std::string_view right) noexcept {
  char guess[16];
  TextWriter writer(guess, sizeof guess);
  const int percent = guess_percent(text);
  if (percent > 0 && percent <= max) writer.put_int(percent).put('%');
  return bad(why, "not a percentage", writer.view(), right);
}

}  // namespace memlimit::kinds
