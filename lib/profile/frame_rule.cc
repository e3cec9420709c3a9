/* See frame_rule.h. */
#include "profile/frame_rule.h"

#include <cstring>

#include "profile/byte_reader.h"
#include "profile/frame_machine.h"

namespace memlimit::profile {
namespace {

/* Pointer encodings (Linux Standard Base Core, 10.5.1). */
constexpr uint8_t kPcRelative = 0x10, kDataRelative = 0x30, kUnsigned4 = 0x03, kSigned4 = 0x0b;

struct Common {
  uint64_t code_align = 1;
  int64_t data_align = 1;
  uint8_t pointer_encoding = 0;
  bool augmented = false;
  bool signal = false;
  ByteReader instructions{0, 0};
};

/* Bytes that an encoded pointer takes; 0: nothing that is used here. */
unsigned encoded_bytes(uint8_t encoding) noexcept {
  switch (encoding & 0x0f) {
    case 0x02:
    case 0x0a:
      return 2;
    case 0x03:
    case 0x0b:
      return 4;
    case 0x00:
    case 0x04:
    case 0x0c:
      return 8;
    default:
      return 0;
  }
}

bool read_common(ByteReader reader, Common* out) noexcept {
  const auto version = reader.fixed<uint8_t>();
  if (version != 1 && version != 3) return false;
  char augmentation[8] = {};
  for (char& letter : augmentation) {
    letter = static_cast<char>(reader.fixed<uint8_t>());
    if (letter == '\0') break;
  }
  if (augmentation[sizeof augmentation - 1] != '\0') return false;
  out->code_align = reader.unsigned_leb();
  out->data_align = reader.signed_leb();
  const uint64_t return_register = version == 1 ? reader.fixed<uint8_t>() : reader.unsigned_leb();
  if (return_register != kReturnAddress) return false;
  if (augmentation[0] == 'z') {
    out->augmented = true;
    ByteReader data = reader.part(reader.unsigned_leb());
    for (const char* letter = augmentation + 1; *letter != '\0'; ++letter) {
      if (*letter == 'R') {
        out->pointer_encoding = data.fixed<uint8_t>();
      } else if (*letter == 'P') {
        data.skip(encoded_bytes(data.fixed<uint8_t>()));
      } else if (*letter == 'L') {
        data.skip(1);
      } else if (*letter == 'S') {
        out->signal = true;
      } else if (*letter != 'B') {
        return false;
      }
    }
    if (!data.ok()) return false;
  } else if (augmentation[0] != '\0') {
    return false;
  }
  out->instructions = reader;
  return reader.ok();
}

/* The entry for an address: where its function begins, and where the entry is. */
bool find_entry(const CodeImage& image, uintptr_t address, uintptr_t* function,
                uintptr_t* entry) noexcept {
  ByteReader header(image.unwind_header, image.end);
  const auto version = header.fixed<uint8_t>();
  const auto frame_encoding = header.fixed<uint8_t>();
  const auto count_encoding = header.fixed<uint8_t>();
  const auto table_encoding = header.fixed<uint8_t>();
  // What GNU ld, gold, lld and mold write.
  if (!header.ok() || version != 1 || (frame_encoding & 0x0f) != kSigned4 ||
      count_encoding != kUnsigned4 || table_encoding != (kDataRelative | kSigned4))
    return false;
  header.skip(4);
  const auto count = header.fixed<uint32_t>();
  struct Row {
    int32_t function, entry;
  };
  const uintptr_t table = header.at();
  header.skip(uint64_t{count} * sizeof(Row));
  if (!header.ok() || count == 0) return false;
  const auto wanted = static_cast<int64_t>(address - image.unwind_header);
  const auto row_at = [&](uint32_t index) {
    Row row;
    memcpy(&row, reinterpret_cast<const void*>(table + index * sizeof row), sizeof row);
    return row;
  };
  uint32_t low = 0, high = count; /* the last row that is not above the address is in [low, high) */
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (row_at(middle).function <= wanted) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const Row row = row_at(low);
  if (row.function > wanted) return false;
  *function = image.unwind_header + static_cast<uintptr_t>(int64_t{row.function});
  *entry = image.unwind_header + static_cast<uintptr_t>(int64_t{row.entry});
  return *entry >= image.begin && *entry < image.end;
}

/* The length of an entry in .eh_frame, and what follows it. */
bool open_entry(const CodeImage& image, uintptr_t at, ByteReader* out) noexcept {
  if (at < image.begin || at >= image.end) return false;
  ByteReader reader(at, image.end);
  const auto length = reader.fixed<uint32_t>();
  if (length == 0 || length == UINT32_MAX) return false;
  *out = reader.part(length);
  return reader.ok();
}

template <typename Narrow>
bool fits(int64_t value) noexcept {
  return static_cast<Narrow>(value) == value;
}

bool to_rule(const FrameState& state, bool signal, FrameRule* out) noexcept {
  using Where = SavedRegister::Where;
  const SavedRegister& back = state.return_address;
  const SavedRegister& frame = state.frame_pointer;
  if (!state.cfa_known || !fits<int32_t>(state.cfa_offset)) return false;
  if (state.cfa_register != kStackPointer && state.cfa_register != kFramePointer) return false;
  FrameRule rule;
  rule.cfa_offset = static_cast<int32_t>(state.cfa_offset);
  rule.cfa_from_frame_pointer = state.cfa_register == kFramePointer;
  rule.cfa_is_read = state.cfa_is_read;
  rule.signal = signal;
  rule.outermost = back.where == Where::kUndefined;
  rule.saved_from_stack_pointer = back.where == Where::kFromStackPointer;
  rule.return_in_register = back.where == Where::kInRegister;
  if (!rule.outermost && !rule.return_in_register) {
    if (back.where != Where::kFromCfa && back.where != Where::kFromStackPointer) return false;
    if (!fits<int16_t>(back.offset)) return false;
    rule.return_offset = static_cast<int16_t>(back.offset);
  }
  rule.frame_pointer_saved = frame.where != Where::kInRegister;
  if (rule.frame_pointer_saved) {
    // Both from the same place, or it cannot be said in a few bits. What is undefined is not looked for.
    const Where place = rule.return_in_register ? Where::kFromCfa : back.where;
    if (frame.where != place || !fits<int16_t>(frame.offset))
      return rule.outermost && (*out = rule, true);
    rule.frame_pointer_offset = static_cast<int16_t>(frame.offset);
  }
  *out = rule;
  return true;
}

}  // namespace

bool find_frame_rule(const CodeImage& image, uintptr_t address, FrameRule* out) noexcept {
  if (image.unwind_header < image.begin || image.unwind_header >= image.end) return false;
  uintptr_t function = 0, entry = 0;
  ByteReader own(0, 0);
  if (!find_entry(image, address, &function, &entry) || !open_entry(image, entry, &own))
    return false;
  const uintptr_t back_from = own.at();
  const auto back = own.fixed<uint32_t>();
  ByteReader common_entry(0, 0);
  Common common;
  if (back == 0 || !open_entry(image, back_from - back, &common_entry)) return false;
  common_entry.skip(4);
  if (!read_common(common_entry, &common)) return false;
  const unsigned pointer_bytes = encoded_bytes(common.pointer_encoding);
  if (pointer_bytes == 0 || (common.pointer_encoding & 0x70 & ~kPcRelative) != 0) return false;
  own.skip(pointer_bytes);
  uint64_t function_bytes = 0;
  if (pointer_bytes == 2) function_bytes = own.fixed<uint16_t>();
  if (pointer_bytes == 4) function_bytes = own.fixed<uint32_t>();
  if (pointer_bytes == 8) function_bytes = own.fixed<uint64_t>();
  if (address - function >= function_bytes) return false;
  if (common.augmented) own.skip(own.unsigned_leb());
  if (!own.ok()) return false;
  FrameMachine machine(common.code_align, common.data_align, function, address);
  if (!machine.run(common.instructions)) return false;
  machine.begin_own();
  return machine.run(own) && to_rule(machine.state(), common.signal, out);
}

uint64_t pack(const FrameRule& rule) noexcept {
  using namespace detail;
  constexpr int32_t kLargestOffset = (1 << 23) - 1;
  if (rule.cfa_offset > kLargestOffset || rule.cfa_offset < -kLargestOffset) return 0;
  uint64_t packed = kValid | (static_cast<uint64_t>(rule.cfa_offset) & 0xffffff);
  packed |= uint64_t{static_cast<uint16_t>(rule.return_offset)} << 24;
  packed |= uint64_t{static_cast<uint16_t>(rule.frame_pointer_offset)} << 40;
  if (rule.cfa_from_frame_pointer) packed |= kFlag;
  if (rule.cfa_is_read) packed |= kFlag << 1;
  if (rule.saved_from_stack_pointer) packed |= kFlag << 2;
  if (rule.frame_pointer_saved) packed |= kFlag << 3;
  if (rule.signal) packed |= kFlag << 4;
  if (rule.outermost) packed |= kFlag << 5;
  if (rule.return_in_register) packed |= kFlag << 6;
  return packed;
}

}  // namespace memlimit::profile
