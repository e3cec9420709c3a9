/* See heap_text.h. */
#include "observe/heap_text.h"

#include <string_view>

namespace memlimit {
namespace {

constexpr size_t kNameWidth = 15; /* thread-1234567 and a blank */
constexpr size_t kBlockWidth = 6;
constexpr size_t kCountWidth = 11;
constexpr size_t kBytesWidth = 15;

/* Of a thread's row with every number at its largest; the last line needs as much. */
constexpr size_t kMaxThreadRowBytes = 128;

void put_figure(TextWriter& out, int64_t value, size_t width) noexcept {
  out.put(' ');
  if (value == HeapClassRow::kNone) {
    out.pad_to(out.length(), width - 2).put('-');
  } else {
    out.put_right(value, width - 1);
  }
}

void put_name(TextWriter& out, const HeapClassRow& row) noexcept {
  const size_t before = out.length();
  switch (row.kind) {
    case HeapClassRow::Kind::kBlocks:
      out.put("block-").put_int(row.block_bytes);
      break;
    case HeapClassRow::Kind::kLarge:
      out.put("large");
      break;
    case HeapClassRow::Kind::kHuge:
      out.put("huge");
      break;
    case HeapClassRow::Kind::kSlices:
      out.put("slices");
      break;
  }
  out.pad_to(before, kNameWidth);
}

}  // namespace

HeapText::HeapText(char* buffer, size_t cap) noexcept : out_(buffer, cap), cap_(cap) {
  out_.put(
      "class           block       live       free     cached      spans     purged     "
      "live_bytes\n");
}

void HeapText::add(const HeapClassRow& row) noexcept {
  put_name(out_, row);
  put_figure(out_, row.block_bytes, kBlockWidth);
  for (const int64_t count : {row.live, row.free, row.cached, row.spans, row.purged}) {
    put_figure(out_, count, kCountWidth);
  }
  put_figure(out_, row.live_bytes, kBytesWidth);
  out_.put('\n');
}

void HeapText::begin_threads() noexcept {
  if (in_threads_) return;
  in_threads_ = true;
  out_.put("thread              held_bytes   cached_bytes     live_bytes\n");
}

void HeapText::put_thread(HeapThreadRow row) noexcept {
  for (const int64_t bytes : {row.held_bytes, row.cached_bytes, row.live_bytes()}) {
    out_.put(' ').put_right(bytes, kBytesWidth - 1);
  }
  out_.put('\n');
}

void HeapText::add(const HeapThreadRow& row) noexcept {
  begin_threads();
  if (left_out_ > 0 || out_.length() + 2 * kMaxThreadRowBytes > cap_) {
    ++left_out_;
    rest_.held_bytes += row.held_bytes;
    rest_.cached_bytes += row.cached_bytes;
    return;
  }
  const size_t before = out_.length();
  if (row.tid == 0) {
    out_.put("others");
  } else {
    out_.put("thread-").put_int(row.tid);
  }
  out_.pad_to(before, kNameWidth);
  put_thread(row);
}

HeapVisitor HeapText::visitor() noexcept {
  return {
      this,
      [](void* text, const HeapClassRow& row) noexcept { static_cast<HeapText*>(text)->add(row); },
      [](void* text, const HeapThreadRow& row) noexcept {
        static_cast<HeapText*>(text)->add(row);
      }};
}

size_t HeapText::finish() noexcept {
  begin_threads();
  if (left_out_ > 0) {
    const size_t before = out_.length();
    out_.put("more-").put_int(left_out_).pad_to(before, kNameWidth);
    put_thread(rest_);
  }
  if (out_.truncated()) out_.drop_partial_line();
  return out_.length();
}

}  // namespace memlimit
