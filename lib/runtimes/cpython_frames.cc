/* See cpython_frames.h. */
#include "runtimes/cpython_frames.h"

#include <algorithm>
#include <string_view>

#include <pthread.h>

#include "profile/readable_memory.h"
#include "profile/script_stack.h"
#include "system/text.h"

namespace memlimit::runtimes::cpython_frames {
namespace {

/* Where things are, in bytes: of CPython's own headers (pycore_frame.h, pystate.h, code.h, unicodeobject.h). They have been
 * the same in all releases of a minor version. */
struct Layout {
  unsigned minor;
  unsigned state_frame;      /* of a thread state: its frame, or what points to that */
  unsigned frame_in_c_frame; /* of what it points to; kDirect: there is nothing between */
  unsigned state_thread;     /* its pthread_t */
  unsigned frame_code, frame_previous, frame_instruction, frame_owner;
  unsigned code_first_line, code_instructions;
  unsigned ascii_text, latin_text; /* of a string */
};
constexpr unsigned kDirect = ~0U;
constexpr Layout kLayouts[] = {
    {11, 56, 8, 152, 32, 48, 56, 69, 72, 184, 48, 72},
    {12, 56, 0, 136, 0, 8, 56, 70, 68, 192, 40, 56},
    {13, 72, kDirect, 152, 0, 8, 56, 70, 68, 200, 40, 56},
};
/* The same in all three. */
constexpr unsigned kTypeOfObject = 8, kFileOfCode = 112, kNameOfCode = 128, kTableOfCode = 136;
constexpr unsigned kLengthOfObject = 16, kStateOfString = 32, kBytesOfBytes = 32;
constexpr unsigned char kOwnedByCStack =
    3; /* 3.12 and later: a frame that only marks a call from C */

constexpr int kMostFrames = 128; /* read, before the profile has no room left */
constexpr size_t kMostTableBytes = size_t{64} << 10;
constexpr size_t kMostNameBytes = 100, kMostPathBytes = 100;

struct Interpreter {
  const Layout* layout;
  uintptr_t code_type, string_type;
  void* (*this_state)();
};
constinit Interpreter python{};
constinit profile::ScriptRuntime script{};

class Frames {
 public:
  /* What the thread runs; false: it has not the interpreter's lock, or runs nothing. */
  bool begin() noexcept {
    const Layout& layout = *python.layout;
    const auto state = reinterpret_cast<uintptr_t>(python.this_state());
    uintptr_t thread = 0;
    // Up to 3.11 it is the state of whoever has the lock.
    if (state == 0 || !memory_.read(state + layout.state_thread, &thread) ||
        thread != static_cast<uintptr_t>(pthread_self()))
      return false;
    if (!memory_.read(state + layout.state_frame, &frame_)) return false;
    return layout.frame_in_c_frame == kDirect ||
           (frame_ != 0 && memory_.read(frame_ + layout.frame_in_c_frame, &frame_));
  }

  bool more() const noexcept { return frame_ != 0; }

  /* Writes the frame, if it is a function's, and goes to its caller; false: that cannot be done. */
  bool next(TextWriter& out) noexcept {
    const Layout& layout = *python.layout;
    unsigned char owner = 0;
    uintptr_t code = 0, instruction = 0, previous = 0;
    if (!memory_.get(frame_ + layout.frame_owner, &owner) ||
        !memory_.read(frame_ + layout.frame_code, &code) ||
        !memory_.read(frame_ + layout.frame_instruction, &instruction) ||
        !memory_.read(frame_ + layout.frame_previous, &previous))
      return false;
    if (owner != kOwnedByCStack && has_type(code, python.code_type)) put(out, code, instruction);
    frame_ = previous;
    return true;
  }

 private:
  bool has_type(uintptr_t object, uintptr_t type) noexcept {
    uintptr_t found = 0;
    return object != 0 && memory_.read(object + kTypeOfObject, &found) && found == type;
  }

  /* A string's last bytes where it is too long: of a path those tell more. */
  void put_string(TextWriter& out, uintptr_t holder, size_t most, bool its_end) noexcept {
    uintptr_t string = 0, length = 0;
    uint32_t state = 0;
    if (!memory_.read(holder, &string) || !has_type(string, python.string_type) ||
        !memory_.read(string + kLengthOfObject, &length) ||
        !memory_.get(string + kStateOfString, &state)) {
      out.put('?');
      return;
    }
    // interned:2, kind:3, compact:1, ascii:1
    const bool compact = (state & 1U << 5) != 0, ascii = (state & 1U << 6) != 0;
    const bool bytes = (state >> 2 & 7) == 1;
    if (!compact || !bytes) {
      out.put('?');
      return;
    }
    const size_t count = std::min<size_t>(length, most);
    const size_t left_out = its_end ? length - count : 0;
    char text[kMostPathBytes];
    const Layout& layout = *python.layout;
    const uintptr_t from = string + (ascii ? layout.ascii_text : layout.latin_text) + left_out;
    if (!memory_.copy(from, text, count)) {
      out.put('?');
      return;
    }
    // The function is one word, which a blank ends; the path is the rest of its line. What is not ASCII may be anything.
    const char least = its_end ? ' ' : '!';
    for (size_t i = 0; i < count; ++i) {
      if (text[i] < least || text[i] > '~') text[i] = '?';
    }
    if (left_out > 0) out.put("...");
    out.put({text, count});
  }

  int line_of(uintptr_t code, uintptr_t instruction) noexcept {
    const Layout& layout = *python.layout;
    uintptr_t table = 0, length = 0;
    int first_line = 0;
    const uintptr_t offset = instruction - (code + layout.code_instructions);
    if (!memory_.read(code + kTableOfCode, &table) || table == 0 ||
        !memory_.read(table + kLengthOfObject, &length) ||
        !memory_.get(code + layout.code_first_line, &first_line) || offset > UINT32_MAX / 2)
      return first_line;
    const size_t count = std::min<size_t>(length, kMostTableBytes);
    if (!memory_.has(table + kBytesOfBytes, count)) return first_line;
    const int line = line_at(reinterpret_cast<const unsigned char*>(table + kBytesOfBytes), count,
                             first_line, static_cast<unsigned>(offset));
    return line > 0 ? line : first_line;
  }

  void put(TextWriter& out, uintptr_t code, uintptr_t instruction) noexcept {
    put_string(out, code + kNameOfCode, kMostNameBytes, false);
    out.put(' ');
    put_string(out, code + kFileOfCode, kMostPathBytes, true);
    out.put(':').put_int(line_of(code, instruction));
  }

  profile::ReadableMemory memory_;
  uintptr_t frame_ = 0;
};

void tell_frames(bool (*add)(void*, const char*, size_t) noexcept, void* context) noexcept {
  Frames frames;
  if (!frames.begin()) return;
  for (int i = 0; i < kMostFrames && frames.more(); ++i) {
    char text[kMostNameBytes + kMostPathBytes + 32];
    TextWriter out(text, sizeof text);
    if (!frames.next(out)) return;
    if (out.length() > 0 && !add(context, text, out.length())) return;
  }
}

/* Of the table's numbers: six bits a byte, the lowest first. */
class Varints {
 public:
  Varints(const unsigned char* table, size_t length) noexcept : at_(table), end_(table + length) {}
  bool more() const noexcept { return at_ < end_; }
  unsigned byte() noexcept { return at_ < end_ ? *at_++ : 0; }
  unsigned number() noexcept {
    unsigned value = 0;
    for (unsigned shift = 0; at_ < end_ && shift < 32; shift += 6) {
      const unsigned part = byte();
      value |= (part & 63) << shift;
      if ((part & 64) == 0) break;
    }
    return value;
  }
  int signed_number() noexcept {
    const unsigned value = number();
    const auto amount = static_cast<int>(value >> 1);
    return (value & 1) != 0 ? -amount : amount;
  }

 private:
  const unsigned char* at_;
  const unsigned char* end_;
};

}  // namespace

int line_at(const unsigned char* table, size_t length, int first_line, unsigned offset) noexcept {
  // An entry is for so many code units of two bytes.
  constexpr unsigned kUnitBytes = 2;
  constexpr unsigned kNoLocation = 15, kLong = 14, kNoColumns = 13, kOneLine = 10;
  Varints entries(table, length);
  unsigned begin = 0;
  int64_t line = first_line;
  while (entries.more()) {
    const unsigned head = entries.byte();
    const unsigned kind = head >> 3 & 15;
    const unsigned end = begin + ((head & 7) + 1) * kUnitBytes;
    if (kind == kLong) {
      line += entries.signed_number();
      entries.number();  // lines more, column, and column of the end
      entries.number();
      entries.number();
    } else if (kind == kNoColumns) {
      line += entries.signed_number();
    } else if (kind >= kOneLine && kind < kNoColumns) {
      line += kind - kOneLine;
      entries.byte();
      entries.byte();
    } else if (kind < kOneLine) {
      entries.byte();
    }
    if (offset >= begin && offset < end) {
      return kind == kNoLocation || line < 0 || line > INT32_MAX ? 0 : static_cast<int>(line);
    }
    begin = end;
  }
  return 0;
}

void watch(const ElfImage& image) noexcept {
  const auto* const version = static_cast<const unsigned long*>(image.symbol("Py_Version"));
  const auto interpreter = reinterpret_cast<uintptr_t>(image.symbol("_PyEval_EvalFrameDefault"));
  const size_t bytes = image.symbol_bytes("_PyEval_EvalFrameDefault");
  Interpreter found{};
  if (version == nullptr || *version >> 24 != 3 || interpreter == 0 || bytes == 0 ||
      (!image.find("_PyThreadState_UncheckedGet", &found.this_state) &&
       !image.find("PyThreadState_GetUnchecked", &found.this_state)))  // 3.13's name
    return;
  for (const Layout& layout : kLayouts) {
    if (layout.minor == (*version >> 16 & 0xff)) found.layout = &layout;
  }
  found.code_type = reinterpret_cast<uintptr_t>(image.symbol("PyCode_Type"));
  found.string_type = reinterpret_cast<uintptr_t>(image.symbol("PyUnicode_Type"));
  if (found.layout == nullptr || found.code_type == 0 || found.string_type == 0) return;
  python = found;
  script = {interpreter, interpreter + bytes, tell_frames};
  profile::set_script_runtime(script);
}

}  // namespace memlimit::runtimes::cpython_frames
