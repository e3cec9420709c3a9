/* Sizes: Go's own conformance table, suggestions for near misses, and figures for people. */
#include "settings/units.h"

#include <random>
#include <string>

#include <regex.h>

#include <catch2/catch.hpp>

using memlimit::format_size;
using memlimit::format_size_exact;
using memlimit::parse_size;
using memlimit::SizeError;
using memlimit::suggest_size;

namespace {

constexpr int64_t kKiB = 1LL << 10, kMiB = 1LL << 20, kGiB = 1LL << 30, kTiB = 1LL << 40;

std::string suggestion(std::string_view bad) {
  char out[128];
  const size_t length = suggest_size(bad, out, sizeof out);
  REQUIRE(length == std::string_view(out).size());
  return out;
}

std::string for_people(int64_t bytes) {
  char out[64];
  const size_t length = format_size(bytes, out, sizeof out);
  REQUIRE(length == std::string_view(out).size());
  return out;
}

std::string exact(int64_t bytes) {
  char out[64];
  format_size_exact(bytes, out, sizeof out);
  return out;
}

}  // namespace

TEST_CASE("units: accepts what Go's TestParseByteCount accepts", "[units]") {
  struct Row {
    const char* text;
    int64_t bytes;
  };
  const Row rows[] = {
      {"1", 1},
      {"12345", 12345},
      {"012345", 12345},
      {"98765432100", 98765432100},
      {"9223372036854775807", INT64_MAX},
      {"1B", 1},
      {"12345B", 12345},
      {"012345B", 12345},
      {"98765432100B", 98765432100},
      {"9223372036854775807B", INT64_MAX},
      {"1KiB", kKiB},
      {"05KiB", 5 * kKiB},
      {"1MiB", kMiB},
      {"10MiB", 10 * kMiB},
      {"1GiB", kGiB},
      {"100GiB", 100 * kGiB},
      {"1TiB", kTiB},
      {"99TiB", 99 * kTiB},
      {"-0", 0},
      {"0", 0},
      {"0B", 0},
      {"0KiB", 0},
      {"0MiB", 0},
      {"0GiB", 0},
      {"0TiB", 0},
      // Beyond Go's table: the last size before overflow in each unit, and a long run of zeros.
      {"9007199254740991KiB", INT64_MAX / kKiB * kKiB},
      {"8796093022207MiB", INT64_MAX / kMiB * kMiB},
      {"8589934591GiB", INT64_MAX / kGiB * kGiB},
      {"8388607TiB", INT64_MAX / kTiB * kTiB},
      {"0000000000000000000000000000000000000000007MiB", 7 * kMiB},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    SizeError error = SizeError::kOverflow;
    const auto bytes = parse_size(row.text, &error);
    REQUIRE(bytes.has_value());
    CHECK(*bytes == row.bytes);
    CHECK(error == SizeError::kNone);
  }
}

TEST_CASE("units: refuses what Go's TestParseByteCount refuses", "[units]") {
  const char* const kGrammar[] = {
      "-1", "a12345", "a12345B", "12345x", "0x12345",
      // Bad binary suffixes.
      "1Ki", "05Ki", "10Mi", "100Gi", "99Ti", "22iB", "B", "iB", "KiB", "MiB", "GiB", "TiB",
      "-120KiB", "-891MiB", "-704GiB", "-42TiB", "555EiB",
      // Mistaken SI suffixes.
      "0KB", "0MB", "0GB", "0TB", "1KB", "05KB", "1MB", "10MB", "1GB", "100GB", "1TB", "99TB", "1K",
      "05K", "10M", "100G", "99T", "99999999999999999999KB", "99999999999999999MB",
      "99999999999999GB", "99999999999TB", "555EB",
      // Beyond Go's table.
      " 1", "1 ", "1 MiB", "1mib", "1MIB", "1mb", "1.5GiB", "1e9", "+1", "--0", "-", "-B", "-KiB",
      "1BB", "1iB", "1MiBB", "1MiMiB", "1PiB", "80%", "off", "1_000", "1,000", "1\n", "\xc2\xb9",
      "99999999999999999999x"};
  for (const char* text : kGrammar) {
    INFO(text);
    SizeError error = SizeError::kNone;
    CHECK_FALSE(parse_size(text, &error).has_value());
    CHECK(error == SizeError::kGrammar);
  }
  const char* const kTooLarge[] = {
      "9223372036854775808", "9223372036854775809", "18446744073709551615", "20496382327982653440",
      "18446744073709551616", "18446744073709551617", "9999999999999999999999",
      "9223372036854775808B", "9223372036854775809B", "18446744073709551615B",
      "20496382327982653440B", "18446744073709551616B", "18446744073709551617B",
      "9999999999999999999999B", "99999999999999999999KiB", "99999999999999999MiB",
      "99999999999999GiB", "99999999999TiB",
      // Beyond Go's table: the first size that overflows in each unit, and one that wraps 2^128.
      "9007199254740992KiB", "8796093022208MiB", "8589934592GiB", "8388608TiB",
      "340282366920938463463374607431768211457"};
  for (const char* text : kTooLarge) {
    INFO(text);
    SizeError error = SizeError::kNone;
    CHECK_FALSE(parse_size(text, &error).has_value());
    CHECK(error == SizeError::kOverflow);
  }
  SizeError error = SizeError::kNone;
  CHECK_FALSE(parse_size("", &error).has_value());
  CHECK(error == SizeError::kEmpty);
  CHECK_FALSE(parse_size(std::string_view("1\0", 2), nullptr).has_value());
}

TEST_CASE("units: agrees with the written grammar on random text", "[units]") {
  regex_t grammar;
  REQUIRE(regcomp(&grammar, "^[0-9]+(([KMGT]i)?B)?$", REG_EXTENDED | REG_NOSUB) == 0);
  const std::string_view alphabet = "0199KMGTEkmiBb .-";
  std::mt19937 random(20);
  int accepted = 0;
  for (int turn = 0; turn < 50'000; ++turn) {
    std::string text;
    const size_t length = random() % 7;
    for (size_t i = 0; i < length; ++i) text += alphabet[random() % alphabet.size()];
    if (text.substr(0, 2) == "-0") continue;  // Go's one exception, tested above
    INFO(text);
    const bool matches = regexec(&grammar, text.c_str(), 0, nullptr, 0) == 0;
    REQUIRE(parse_size(text, nullptr).has_value() == matches);
    accepted += matches;
  }
  regfree(&grammar);
  CHECK(accepted > 1000);
}

TEST_CASE("units: suggests what a near miss may have meant", "[units]") {
  struct Row {
    const char* bad;
    const char* expected;
  };
  const Row rows[] = {
      // SI units mean two things.
      {"512MB", "512MiB or 488MiB"},
      {"512mb", "512MiB or 488MiB"},
      {"1GB", "1GiB or 954MiB"},
      {"1.5GB", "1536MiB or 1431MiB"},
      {"2GB", "2GiB or 1907MiB"},
      {"100GB", "100GiB or 93GiB"},
      {"100kB", "100KiB or 98KiB"},
      {"1KB", "1KiB or 1000B"},
      {"1TB", "1TiB or 931GiB"},
      {"512 megabytes", ""},
      {"512MBytes", "512MiB or 488MiB"},
      // A bare prefix means the binary unit wherever it is a convention.
      {"512M", "512MiB"},
      {"512m", "512MiB"},
      {"1g", "1GiB"},
      {"64K", "64KiB"},
      {"512Mi", "512MiB"},
      {"512mi", "512MiB"},
      {"512mib", "512MiB"},
      {"512MIB", "512MiB"},
      {"512 MiB", "512MiB"},
      {" 512MiB", "512MiB"},
      {"512MiB\n", "512MiB"},
      {"\"512MiB\"", "512MiB"},
      {"+512MiB", "512MiB"},
      {"007M", "7MiB"},
      // Fractions and other ways to write a number.
      {"0.5GiB", "512MiB"},
      {"0,5GiB", "512MiB"},
      {".5GiB", "512MiB"},
      {"1.5G", "1536MiB"},
      {"0.3GiB", "307MiB"},
      {"1.", "1"},
      {"0.8", ""},
      {"1.5", ""},
      {"1e9", "1000000000 or 954MiB"},
      {"1e3", "1000"},
      {"1,073,741,824", "1073741824 or 1GiB"},
      {"512_000_000", "512000000 or 488MiB"},
      {"1,024MiB", "1GiB"},
      {"0x20000000", "512MiB"},
      {"0xfff", "4095B"},
      {"512 b", "512"},
      {"512 bytes", "512"},
      {" 4096", "4096"},
      {"1PiB", "1024TiB"},
      {"1P", "1024TiB"},
      {"2E", "2097152TiB"},
      // No good guess: better none than a bad one.
      {"", ""},
      {"abc", ""},
      {"MiB", ""},
      {"-512MiB", ""},
      {"512XB", ""},
      {"512MiB 3", ""},
      {"0MB", ""},
      {"8E", ""},
      {"9999999999999999999999", ""},
      {"99999999999TiB", ""},
      {"1.2.3M", ""},
      {"1e99", ""},
      {"0.0000000001GiB", ""},
      {"0x", ""},
      {"80%", ""},
      /* Rounded up it would be none. */
      {"9223372036854775807,", "9223372036854775807"},
  };
  for (const Row& row : rows) {
    INFO(row.bad);
    CHECK(suggestion(row.bad) == row.expected);
  }
}

TEST_CASE("units: every suggestion is itself a valid size", "[units]") {
  const std::string_view alphabet = "0123456789999KMGTPEkmgiBb .,_eEx";
  std::mt19937 random(7);
  int suggested = 0;
  for (int turn = 0; turn < 100'000; ++turn) {
    std::string text;
    const size_t length = 1 + random() % 24;
    for (size_t i = 0; i < length; ++i) {
      // Mostly digits first and letters last, as near misses are.
      const size_t range = i * 3 < length * 2 ? 13 : alphabet.size();
      text += alphabet[random() % range];
    }
    std::string guess = suggestion(text);
    while (!guess.empty()) {
      INFO(text << " -> " << guess);
      const size_t split = guess.find(" or ");
      REQUIRE(parse_size(guess.substr(0, split), nullptr).value_or(0) > 0);
      guess = split == std::string::npos ? "" : guess.substr(split + 4);
      ++suggested;
    }
  }
  CHECK(suggested > 1000);
}

TEST_CASE("units: a suggestion that does not fit is cut, never overrun", "[units]") {
  char out[8] = {'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x'};
  CHECK(suggest_size("512MB", out, 7) == 6);
  CHECK(std::string(out) == "512MiB");
  CHECK(out[7] == 'x');
  CHECK(suggest_size("512MB", out, 0) == 0);
}

TEST_CASE("units: figures for people have three or four digits", "[units]") {
  struct Row {
    int64_t bytes;
    const char* expected;
  };
  const Row rows[] = {
      {0, "0 B"},
      {1, "1 B"},
      {1023, "1023 B"},
      {kKiB, "1 KiB"},
      {1536, "1.5 KiB"},
      {64 * kKiB, "64 KiB"},
      {301 * kMiB, "301 MiB"},
      {301 * kMiB + 300'000, "301 MiB"},
      {301 * kMiB + 900'000, "302 MiB"},
      {512 * kMiB, "512 MiB"},
      {kMiB - 1, "1 MiB"},
      {kGiB - 1, "1 GiB"},
      {1000 * kMiB, "1000 MiB"},
      {kGiB + kGiB / 2, "1.5 GiB"},
      {kGiB + 460 * kMiB, "1.45 GiB"},
      {kGiB + 50 * kMiB, "1.05 GiB"},
      {12 * kGiB + 345 * kMiB, "12.3 GiB"},
      {9 * kMiB + 1'047'000, "10 MiB"},
      {-512 * kMiB, "-512 MiB"},
      {5000 * kTiB, "5000 TiB"},
      {INT64_MAX, "8388608 TiB"},
      {INT64_MIN, "-8388608 TiB"},
  };
  for (const Row& row : rows) {
    INFO(row.bytes);
    CHECK(for_people(row.bytes) == row.expected);
  }
}

TEST_CASE("units: exact figures read back as the same bytes", "[units]") {
  CHECK(exact(512 * kMiB) == "512MiB");
  CHECK(exact(1025 * kKiB) == "1025KiB");
  CHECK(exact(1000) == "1000B");
  CHECK(exact(0) == "0B");
  CHECK(exact(-5) == "0B");
  std::mt19937_64 random(3);
  for (int turn = 0; turn < 10'000; ++turn) {
    const auto bytes = static_cast<int64_t>((random() >> 1) >> (random() % 63));
    const int64_t masked = bytes & ~((1LL << (random() % 45)) - 1);
    for (const int64_t value : {bytes, masked, INT64_MAX}) {
      INFO(value);
      REQUIRE(parse_size(exact(value), nullptr) == value);
    }
  }
}
