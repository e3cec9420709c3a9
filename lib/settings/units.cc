#include "settings/units.h"

#include "system/text.h"

namespace memlimit {
namespace {

// Wide enough for any int64_t times any unit below, so that scaling never overflows silently.
__extension__ typedef __int128 Wide;

constexpr int64_t kMaxBytes = INT64_MAX;
constexpr std::string_view kPrefixes = "KMGTPE"; /* the grammar knows the first four */
constexpr int kGrammarPrefixes = 4;

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr char to_upper(char c) noexcept {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

/** Bytes in the binary unit of that power: 0 = B, 1 = KiB, ... 6 = EiB. */
constexpr Wide binary_unit(int power) noexcept { return Wide{1} << (10 * power); }

constexpr Wide power_of_ten(int exponent) noexcept {
  Wide value = 1;
  for (int i = 0; i < exponent; ++i) value *= 10;
  return value;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (to_upper(a[i]) != to_upper(b[i])) return false;
  }
  return true;
}

std::optional<int64_t> fail(SizeError* error, SizeError what) noexcept {
  if (error != nullptr) *error = what;
  return std::nullopt;
}

// ---- what a near miss may have meant

/** How a unit was written: what "M", "MB" and "MiB" tell about their writer. */
enum class UnitStyle { kNone, kBinary, kEither };

struct Unit {
  UnitStyle style = UnitStyle::kNone;
  int power = 0;
};

std::optional<Unit> read_unit(std::string_view text) noexcept {
  if (text.empty()) return Unit{};
  for (const std::string_view name : {"B", "byte", "bytes"}) {
    if (equals_ignoring_case(text, name)) return Unit{};
  }
  const size_t prefix = kPrefixes.find(to_upper(text.front()));
  if (prefix == std::string_view::npos) return std::nullopt;
  const int power = static_cast<int>(prefix) + 1;
  const std::string_view rest = text.substr(1);
  // "512M" is what the JVM, Docker and systemd mean by 512MiB, "512Mi" what Kubernetes means by it.
  for (const std::string_view name : {"", "i", "iB", "iBytes"}) {
    if (equals_ignoring_case(rest, name)) return Unit{UnitStyle::kBinary, power};
  }
  for (const std::string_view name : {"B", "Byte", "Bytes"}) {
    if (equals_ignoring_case(rest, name)) return Unit{UnitStyle::kEither, power};
  }
  return std::nullopt;
}

/** A number as people write it: value = mantissa * 10^exponent. */
struct Decimal {
  Wide mantissa = 0;
  int exponent = 0;
  bool plain = true; /* digits only: what was written can be shown again */
};

constexpr Wide kMaxMantissa = Wide{1} << 63;

/** "1,024" and "1_000_000" are grouped, "0,5" is a decimal comma: told apart by groups of exactly
 * three. */
bool is_group_comma(std::string_view text, size_t at) noexcept {
  size_t digits = 0;
  while (at + 1 + digits < text.size() && is_digit(text[at + 1 + digits])) ++digits;
  const bool ends_group = at + 1 + digits >= text.size() || text[at + 1 + digits] != '.';
  return digits == 3 && ends_group && text[0] != '0';
}

/** Takes the number off the front of `text`; nothing when there is none or it is absurdly long. */
std::optional<Decimal> take_number(std::string_view& text) noexcept {
  Decimal number;
  bool in_fraction = false, any = false;
  size_t at = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (is_digit(c)) {
      any = true;
      number.mantissa = number.mantissa * 10 + (c - '0');
      if (in_fraction) --number.exponent;
      if (number.mantissa > kMaxMantissa || number.exponent < -9) return std::nullopt;
      continue;
    }
    const bool separator = c == '_' || c == '\'' || (c == ',' && is_group_comma(text, at));
    if (!separator && ((c != '.' && c != ',') || in_fraction)) break;
    number.plain = false;
    if (!separator) in_fraction = true;
  }
  if (!any) return std::nullopt;
  // "1e9", but not "1E", which would be exa.
  if (at + 1 < text.size() && to_upper(text[at]) == 'E') {
    size_t digit = at + 1;
    if (text[digit] == '+') ++digit;
    int exponent = 0;
    const size_t first = digit;
    for (; digit < text.size() && is_digit(text[digit]) && exponent < 100; ++digit) {
      exponent = exponent * 10 + (text[digit] - '0');
    }
    if (digit > first) {
      if (exponent > 18) return std::nullopt;
      number.exponent += exponent;
      number.plain = false;
      at = digit;
    }
  }
  text.remove_prefix(at);
  return number;
}

/** number * unit, rounded to whole bytes; 0 when it is nothing or more than a size can be. */
int64_t scaled_bytes(const Decimal& number, Wide unit) noexcept {
  if (number.mantissa <= 0) return 0;
  // mantissa <= 2^63 and unit <= 2^60, so this product fits; what a positive exponent adds is
  // checked.
  Wide value = number.mantissa * unit;
  if (number.exponent >= 0) {
    const Wide scale = power_of_ten(number.exponent);
    if (value > kMaxBytes / scale) return 0;
    value *= scale;
  } else {
    const Wide scale = power_of_ten(-number.exponent);
    value = (value + scale / 2) / scale;
  }
  return value <= kMaxBytes ? static_cast<int64_t>(value) : 0;
}

struct Scaled {
  int64_t count = 0;
  int power = 0;
};

/** The largest unit in which a whole number is within `percent` of the bytes (0: exact). */
Scaled in_unit(int64_t bytes, int percent) noexcept {
  for (int power = kGrammarPrefixes; power > 0; --power) {
    const Wide unit = binary_unit(power);
    const Wide count = (bytes + unit / 2) / unit;
    // Rounded up, the largest numbers are none that a size can have.
    if (count == 0 || count * unit > kMaxBytes) continue;
    const Wide difference = count * unit > bytes ? count * unit - bytes : bytes - count * unit;
    if (difference * 100 <= Wide{percent} * bytes) {
      return {static_cast<int64_t>(count), power};
    }
  }
  return {bytes, 0};
}

void put_unit(TextWriter& writer, int power) noexcept {
  if (power > 0) writer.put(kPrefixes[static_cast<size_t>(power) - 1]).put('i');
  writer.put('B');
}

void put_scaled(TextWriter& writer, Scaled size) noexcept {
  writer.put_int(size.count);
  put_unit(writer, size.power);
}

constexpr int kRoundingPercent = 1;

/** The binary reading of what was written: its own digits where they can stay, else the nearest
 * size. */
Scaled binary_guess(const Decimal& number, int power, int64_t bytes) noexcept {
  if (number.plain && power <= kGrammarPrefixes) {
    return {static_cast<int64_t>(number.mantissa), power};
  }
  const Scaled exact = in_unit(bytes, 0);
  constexpr int64_t kReadable = 100'000;
  return exact.count < kReadable ? exact : in_unit(bytes, kRoundingPercent);
}

std::string_view without_blanks(std::string_view text, char* buffer, size_t cap) noexcept {
  TextWriter writer(buffer, cap);
  for (const char c : text) {
    const bool skip = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '"';
    if (!skip) writer.put(c);
  }
  return writer.truncated() ? std::string_view{} : writer.view();
}

std::optional<int64_t> read_hex(std::string_view text) noexcept {
  if (text.size() < 3 || text[0] != '0' || to_upper(text[1]) != 'X') return std::nullopt;
  Wide value = 0;
  for (const char c : text.substr(2)) {
    const char upper = to_upper(c);
    const bool letter = upper >= 'A' && upper <= 'F';
    if (!letter && !is_digit(c)) return std::nullopt;
    value = value * 16 + (letter ? upper - 'A' + 10 : c - '0');
    if (value > kMaxBytes) return std::nullopt;
  }
  return static_cast<int64_t>(value);
}

}  // namespace

std::optional<int64_t> parse_size(std::string_view text, SizeError* error) noexcept {
  if (error != nullptr) *error = SizeError::kNone;
  if (text.empty()) return fail(error, SizeError::kEmpty);

  std::string_view digits = text;
  int power = 0;
  if (digits.back() == 'B') {
    digits.remove_suffix(1);
    if (!digits.empty() && digits.back() == 'i') {
      digits.remove_suffix(1);
      const size_t prefix = digits.empty() ? std::string_view::npos : kPrefixes.find(digits.back());
      if (prefix >= kGrammarPrefixes) return fail(error, SizeError::kGrammar);
      power = static_cast<int>(prefix) + 1;
      digits.remove_suffix(1);
    }
  }

  bool negative = false;
  if (digits.size() > 1 && digits.front() == '-') {
    negative = true;
    digits.remove_prefix(1);
  }
  if (digits.empty()) return fail(error, SizeError::kGrammar);
  // The whole text is looked at before its value: "99999999999999999999x" is no size at all.
  for (const char c : digits) {
    if (!is_digit(c)) return fail(error, SizeError::kGrammar);
  }
  Wide count = 0;
  for (const char c : digits) {
    count = count * 10 + (c - '0');
    if (count > kMaxBytes) break;
  }
  if (negative && count != 0) return fail(error, SizeError::kGrammar);
  if (count * binary_unit(power) > kMaxBytes) return fail(error, SizeError::kOverflow);
  return static_cast<int64_t>(count * binary_unit(power));
}

size_t suggest_size(std::string_view bad, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  char buffer[64];
  std::string_view text = without_blanks(bad, buffer, sizeof buffer);
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);

  if (const auto bytes = read_hex(text)) {
    if (*bytes > 0) put_scaled(writer, in_unit(*bytes, 0));
    return writer.length();
  }
  const auto number = take_number(text);
  if (!number) return 0;
  const auto unit = read_unit(text);
  if (!unit) return 0;
  const int64_t binary_bytes = scaled_bytes(*number, binary_unit(unit->power));
  if (binary_bytes == 0) return 0;

  if (unit->style == UnitStyle::kNone) {
    // "0.8" is somebody's idea of 80 %, not of one byte.
    if (number->exponent < 0) return 0;
    // Bytes: exact, and beside it the size a person would write, if that is another text.
    const Scaled round = in_unit(binary_bytes, kRoundingPercent);
    writer.put_int(binary_bytes);
    if (!number->plain && round.power > 0) put_scaled(writer.put(" or "), round);
    return writer.length();
  }
  const Scaled binary = binary_guess(*number, unit->power, binary_bytes);
  put_scaled(writer, binary);
  if (unit->style == UnitStyle::kEither) {
    const int64_t si_bytes = scaled_bytes(*number, power_of_ten(3 * unit->power));
    const Scaled si = in_unit(si_bytes, kRoundingPercent);
    if (si_bytes > 0 && (si.count != binary.count || si.power != binary.power)) {
      put_scaled(writer.put(" or "), si);
    }
  }
  return writer.length();
}

size_t format_size(int64_t bytes, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  if (bytes < 0) writer.put('-');
  const Wide amount = bytes < 0 ? -Wide{bytes} : Wide{bytes};

  int power = 0;
  while (power < kGrammarPrefixes && amount >= binary_unit(power + 1)) ++power;
  // Hundredths, rounded; then only as many of them as three digits leave room for.
  Wide hundredths = (amount * 100 + binary_unit(power) / 2) / binary_unit(power);
  if (hundredths >= 1000 && hundredths < 10'000) hundredths = (hundredths + 5) / 10 * 10;
  if (hundredths >= 10'000) hundredths = (hundredths + 50) / 100 * 100;
  if (hundredths >= 102'400 && power < kGrammarPrefixes) {
    hundredths = 100; /* 1023.9 MiB is 1 GiB to people */
    ++power;
  }
  const auto whole = static_cast<int64_t>(hundredths / 100);
  const auto fraction = static_cast<int64_t>(hundredths % 100);
  writer.put_int(whole);
  if (fraction != 0) {
    writer.put('.');
    if (fraction % 10 == 0) {
      writer.put_int(fraction / 10);
    } else {
      writer.put_int(fraction, 2);
    }
  }
  writer.put(' ');
  put_unit(writer, power);
  return writer.length();
}

size_t format_size_exact(int64_t bytes, char* out, size_t cap) noexcept {
  TextWriter writer(out, cap);
  put_scaled(writer, bytes > 0 ? in_unit(bytes, 0) : Scaled{});
  return writer.length();
}

}  // namespace memlimit
