/* Text in a fixed buffer: bounds, numbers, escapes. */
#include "system/text.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include <catch2/catch.hpp>

using memlimit::TextWriter;

TEST_CASE("text: never writes past its end and says when something is missing", "[text]") {
  char buffer[8];
  std::memset(buffer, 'z', sizeof buffer);
  TextWriter out(buffer, 5);
  out.put("ab").put_int(-12345);
  CHECK(std::string(buffer) == "ab-1");
  CHECK(out.truncated());
  CHECK(buffer[5] == 'z');
  TextWriter nothing(buffer, 0);
  nothing.put("x");
  CHECK(nothing.length() == 0);
  CHECK(nothing.truncated());
  CHECK(buffer[0] == 'a');
}

TEST_CASE("text: numbers of every size", "[text]") {
  char buffer[64];
  TextWriter(buffer, sizeof buffer).put_int(INT64_MIN).put(' ').put_uint(UINT64_MAX);
  CHECK(std::string(buffer) == "-9223372036854775808 18446744073709551615");
  TextWriter(buffer, sizeof buffer).put_right(-5, 4).put_right(123456, 3).put_right(0, 2);
  CHECK(std::string(buffer) == "  -5123456 0");
  TextWriter(buffer, sizeof buffer)
      .put_int(-5, 4)
      .put(' ')
      .put_uint(255, 16, 4)
      .put(' ')
      .put_uint(0, 8, 0);
  CHECK(std::string(buffer) == "-0005 00ff 0");
  const std::map<int64_t, std::string> seconds = {{0, "0.0"},
                                                  {1, "0.000000001"},
                                                  {1'500'000'000, "1.5"},
                                                  {-1'000'000'000, "-1.0"},
                                                  {INT64_MIN, "-9223372036.854775808"},
                                                  {10, "0.00000001"}};
  for (const auto& [ns, text] : seconds) {
    TextWriter(buffer, sizeof buffer).put_seconds(ns);
    CHECK(std::string(buffer) == text);
  }
}

TEST_CASE("text: foreign text stays on its line, in ASCII and short", "[text]") {
  char buffer[64];
  const auto shown = [&](auto put) {
    TextWriter out(buffer, sizeof buffer);
    put(out);
    return std::string(out.view());
  };
  CHECK(shown([](auto& out) { out.put_escaped("a\n\x1b[0m\\\xff"); }) == "a\\n\\x1b[0m\\\\\\xff");
  CHECK(shown([](auto& out) { out.put_escaped("12345", 4); }) == "1234...");
  CHECK(shown([](auto& out) { out.put_escaped("1234", 4); }) == "1234");
  CHECK(shown([](auto& out) { out.put_column("a b\\"); }) == "a\\040b\\134");
  CHECK(shown([](auto& out) { out.put("x").pad_to(0, 3).put('|').pad_to(0, 3); }) == "x  |");
}

TEST_CASE("text: a line that does not fit can be taken back whole", "[text]") {
  char buffer[8];
  TextWriter out(buffer, sizeof buffer);
  out.put("one\n").put("another\n");
  CHECK(out.truncated());
  CHECK(out.drop_partial_line().view() == "one\n");
  CHECK(std::string(buffer) == "one\n");
  TextWriter none(buffer, sizeof buffer);
  CHECK(none.put("no newline").drop_partial_line().view().empty());
}
