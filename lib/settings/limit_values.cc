/* MEMLIMIT, _START, _GROWTH and _ACCOUNT: how much memory, and which memory.
 *
 * Answers for: a near miss ("512MB", "0.8") gets a guess, words that mean "no limit" get off. Refuses to resolve
 * a percentage, and to accept what could mean two sizes.
 */
#include "settings/value_kinds.h"

#include <climits>
#include <iterator>

#include "settings/spelling.h"
#include "settings/units.h"

namespace memlimit::kinds {
namespace {

constexpr int kAutoPercent = 90;
constexpr int kMaxGrowthPercent = 10'000;

constexpr std::string_view kLimitForms =
    "write a number with B, KiB, MiB, GiB or TiB (512MiB), a percentage of the container's memory "
    "(80%), auto or off";

/* Less than this holds no program: a smaller number without a unit was counted in another one. The byte counts that
 * containers are described in are far above it. */
constexpr int64_t kLeastBareBytes = int64_t{1} << 20;
/* From here on the other unit is rather KiB than MiB: in MiB it would be more than machines have. */
constexpr int64_t kLeastKiBytes = int64_t{100} << 10;

Verdict ask_for_unit(int64_t bytes, TextWriter& why) noexcept {
  why.put("is ").put_int(bytes).put(bytes == 1 ? " byte: did you mean " : " bytes: did you mean ");
  if (bytes <= 100) why.put_int(bytes).put("% or ");
  why.put_int(bytes).put(bytes < kLeastKiBytes ? "MiB" : "KiB");
  why.put("? Write ").put_int(bytes).put("B to mean bytes.");
  return Verdict::kDoubtful;
}

Verdict parse_limit_percent(std::string_view text, std::string_view digits, LimitSetting& limit,
                            TextWriter& why) noexcept {
  const auto percent = read_number(digits, INT_MAX);
  if (!percent) {
    return bad_percent(why, text, 100, "write a whole one from 1% to 100%");
  }
  if (*percent < 1 || *percent > 100) {
    return bad(
        why, "outside of 1% to 100%", "",
        *percent == 0 ? "write off for no limit" : "the limit is a part of the memory there is");
  }
  limit = {LimitKind::kPercent, 0, static_cast<int>(*percent)};
  return Verdict::kOk;
}

}  // namespace

Verdict parse_limit_text(std::string_view text, LimitSetting& limit, TextWriter& why) noexcept {
  if (text.empty()) return bad(why, "empty", "", kLimitForms);
  if (text == "off") {
    limit = {};
    return Verdict::kOk;
  }
  if (text == "auto") {
    limit = {LimitKind::kAuto, 0, kAutoPercent};
    return Verdict::kOk;
  }
  std::string_view digits = text;
  if (take_suffix(digits, "%")) return parse_limit_percent(text, digits, limit, why);

  SizeError error;
  if (const auto bytes = parse_size(text, &error)) {
    if (*bytes > 0) {
      limit = {LimitKind::kBytes, *bytes, 0};
      if (text.back() == 'B' || *bytes >= kLeastBareBytes) return Verdict::kOk;
      return ask_for_unit(*bytes, why);
    }
    limit = {};
    why.put("means no limit. Write off to say so without this line");
    return Verdict::kNotice;
  }
  if (error == SizeError::kOverflow) {
    return bad(why, "too large", "", "sizes end at 8388607TiB, and off means no limit");
  }
  char guess[64];
  if (suggest_size(text, guess, sizeof guess) > 0) return bad(why, "not a size", guess, "");
  if (one_of(text, {"none", "no", "false", "disabled", "unlimited", "infinity", "max", "-1"})) {
    return bad(why, "not a size", "off", "");
  }
  if (guess_percent(text) > 0) return bad_percent(why, text, 100, kLimitForms);
  return bad(why, "not a size", nearest(text, {"off", "auto"}), kLimitForms);
}

Verdict parse_limit(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  return parse_limit_text(text, config.limit, why);
}

void render_limit(const Config& config, TextWriter& out) noexcept {
  char size[32];
  switch (config.limit.kind) {
    case LimitKind::kOff:
      out.put("off");
      break;
    case LimitKind::kBytes:
      format_size_exact(config.limit.bytes, size, sizeof size);
      out.put(size);
      break;
    case LimitKind::kPercent:
      out.put_int(config.limit.percent).put('%');
      break;
    case LimitKind::kAuto:
      out.put("auto");
      break;
  }
}

Verdict parse_start(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  std::string_view digits = text;
  take_suffix(digits, "%");
  const auto percent = read_number(digits, INT_MAX);
  if (!percent) return bad_percent(why, text, 99, "write 1% to 99% of the limit");
  if (*percent < 1 || *percent > 99) {
    return bad(why, "out of range", "", "write 1% to 99% of the limit");
  }
  config.start_percent = static_cast<int>(*percent);
  return Verdict::kOk;
}

void render_start(const Config& config, TextWriter& out) noexcept {
  out.put_int(config.start_percent).put('%');
}

Verdict parse_growth(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  std::string_view digits = text;
  take_suffix(digits, "%");
  const auto percent = text == "off" ? 0 : read_number(digits, INT_MAX);
  constexpr std::string_view kRight = "write 1% to 10000%, or off";
  if (!percent) {
    const std::string_view guess = nearest(text, {"off"});
    if (!guess.empty()) return bad(why, "not a percentage", guess, "");
    return bad_percent(why, text, 100, kRight);
  }
  if (*percent > kMaxGrowthPercent) return bad(why, "out of range", "", kRight);
  config.growth_percent = static_cast<int>(*percent);
  return Verdict::kOk;
}

void render_growth(const Config& config, TextWriter& out) noexcept {
  if (config.growth_percent == 0) {
    out.put("off");
  } else {
    out.put_int(config.growth_percent).put('%');
  }
}

namespace {

constexpr std::string_view kAccountNames[] = {"auto", "heap", "rss", "cgroup"};

}  // namespace

Verdict parse_account(std::string_view text, bool, Config& config, TextWriter& why) noexcept {
  for (size_t i = 0; i < std::size(kAccountNames); ++i) {
    if (text != kAccountNames[i]) continue;
    config.account = static_cast<AccountMode>(i);
    return Verdict::kOk;
  }
  return bad(why, "not a way of counting", nearest(text, kAccountNames, std::size(kAccountNames)),
             "write auto, heap, rss or cgroup");
}

void render_account(const Config& config, TextWriter& out) noexcept {
  out.put(kAccountNames[static_cast<size_t>(config.account)]);
}

}  // namespace memlimit::kinds
