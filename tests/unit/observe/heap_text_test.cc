/* The file `heap` as people and programs see it. */
#include "observe/heap_text.h"

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "observe/stats_text.h"
#include "support/lines.h"

using memlimit::HeapClassRow;
using memlimit::HeapText;
using memlimit::HeapThreadRow;
using memlimit::HeapVisitor;
using memlimit::kMaxTextBytes;
using memlimit::test::lines_of;
using Kind = memlimit::HeapClassRow::Kind;

namespace {

constexpr int64_t kNone = HeapClassRow::kNone;

/* What `fill` hands over, in a buffer of so many bytes. */
template <typename Fill>
std::string render(Fill fill, size_t cap = kMaxTextBytes) {
  std::vector<char> buffer(cap + 1, '#');
  HeapText text(buffer.data(), cap);
  fill(text);
  const size_t length = text.finish();
  CHECK(length < cap);
  CHECK(buffer[length] == '\0');
  CHECK(buffer[cap] == '#');
  return std::string(buffer.data(), length);
}

size_t words_of(const std::string& line) {
  std::istringstream in(line);
  size_t count = 0;
  for (std::string word; in >> word;) ++count;
  return count;
}

}  // namespace

TEST_CASE("heap_text: a table of classes, then one of threads", "[heap_text]") {
  CHECK(render([](HeapText& text) {
          const HeapVisitor visitor = text.visitor();
          visitor.class_row(visitor.context, {Kind::kBlocks, 16, 1000, 3000, 96, 1, 4, 16000});
          visitor.class_row(visitor.context, {Kind::kBlocks, 32768, 0, 0, 0, 0, 0, 0});
          visitor.class_row(visitor.context,
                            {Kind::kLarge, kNone, 3, kNone, kNone, 6, kNone, 307200});
          visitor.class_row(visitor.context,
                            {Kind::kHuge, kNone, 1, kNone, 2, kNone, kNone, 6291456});
          visitor.class_row(visitor.context,
                            {Kind::kSlices, 65536, kNone, 57, kNone, kNone, 912, kNone});
          visitor.thread_row(visitor.context, {0, 4096, 0});
          visitor.thread_row(visitor.context, {412, 6600000, 1536});
          visitor.thread_row(visitor.context, {1234567, -200, 100});
        }) ==
        "class           block       live       free     cached      spans     purged     "
        "live_bytes\n"
        "block-16           16       1000       3000         96          1          4          "
        "16000\n"
        "block-32768     32768          0          0          0          0          0              "
        "0\n"
        "large               -          3          -          -          6          -         "
        "307200\n"
        "huge                -          1          -          2          -          -        "
        "6291456\n"
        "slices          65536          -         57          -          -        912              "
        "-\n"
        "thread              held_bytes   cached_bytes     live_bytes\n"
        "others                    4096              0           4096\n"
        "thread-412             6600000           1536        6598464\n"
        "thread-1234567            -200            100           -300\n");
}

TEST_CASE("heap_text: without rows there are the names of the columns", "[heap_text]") {
  const auto lines = lines_of(render([](HeapText&) {}));
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].starts_with("class "));
  CHECK(lines[1].starts_with("thread "));
}

TEST_CASE("heap_text: the largest numbers stay words of their own", "[heap_text]") {
  const auto lines = lines_of(render([](HeapText& text) {
    const int64_t most = INT64_MIN;
    text.add(HeapClassRow{Kind::kBlocks, most, most, most, most, most, most, most});
    text.add(HeapThreadRow{most, most / 2, most / 2 + 1});
  }));
  REQUIRE(lines.size() == 4);
  CHECK(words_of(lines[1]) == words_of(lines[0]));
  CHECK(words_of(lines[3]) == words_of(lines[2]));
}

TEST_CASE("heap_text: of thousands of threads those that have no room are summed up",
          "[heap_text]") {
  constexpr int64_t kThreads = 10'000;
  for (const size_t cap : {kMaxTextBytes, size_t{4000}}) {
    const auto lines = lines_of(render(
        [&](HeapText& text) {
          for (int64_t i = 1; i <= 96; ++i)
            text.add(HeapClassRow{Kind::kBlocks, i * 16, 1, 2, 3, 4, 5, 6});
          for (int64_t tid = 1; tid <= kThreads; ++tid)
            text.add(HeapThreadRow{tid, 1000 + tid, 100});
        },
        cap));
    if (cap == 4000) {
      // Not even the classes fit: whole lines are what is left of it.
      CHECK(words_of(lines.back()) == words_of(lines.front()));
      continue;
    }
    int64_t shown = 0, held = 0, cached = 0, live = 0;
    for (size_t i = 98; i < lines.size(); ++i) {
      std::istringstream in(lines[i]);
      std::string name;
      int64_t row_held = 0, row_cached = 0, row_live = 0;
      REQUIRE(in >> name >> row_held >> row_cached >> row_live);
      const bool last = i + 1 == lines.size();
      CHECK(name.starts_with(last ? "more-" : "thread-"));
      shown += last ? std::stoll(name.substr(5)) : 1;
      held += row_held;
      cached += row_cached;
      live += row_live;
    }
    CHECK(lines.size() > 2000);
    CHECK(shown == kThreads);
    CHECK(held == kThreads * 1000 + kThreads * (kThreads + 1) / 2);
    CHECK(cached == kThreads * 100);
    CHECK(live == held - cached);
  }
}

TEST_CASE("heap_text: every row of a class has room in any case", "[heap_text]") {
  const std::string text = render([](HeapText& out) {
    const int64_t most = INT64_MIN;
    for (int i = 0; i < 256; ++i)
      out.add(HeapClassRow{Kind::kBlocks, most, most, most, most, most, most, most});
  });
  CHECK(lines_of(text).size() == 258);
}
