/* See frame_machine.h. */
#include "profile/frame_machine.h"

namespace memlimit::profile {
namespace {

/* Of expressions those that are a register and an offset, and what lies there (a realigned stack, a signal's frame). */
bool read_expression(ByteReader code, uint64_t* number, int64_t* offset, bool* read) noexcept {
  constexpr uint8_t kRegisterAndOffset = 0x70, kDereference = 0x06;
  const auto operation = code.fixed<uint8_t>();
  if (operation < kRegisterAndOffset || operation >= kRegisterAndOffset + 32) return false;
  *number = operation - kRegisterAndOffset;
  *offset = code.signed_leb();
  *read = code.more() && code.fixed<uint8_t>() == kDereference;
  return code.ok() && !code.more();
}

}  // namespace

bool FrameMachine::step(ByteReader& code) noexcept {
  const auto operation = code.fixed<uint8_t>();
  const uint8_t operand = operation & 0x3f;
  switch (operation >> 6) {
    case 1:  // DW_CFA_advance_loc
      location_ += operand * code_align_;
      return true;
    case 2:  // DW_CFA_offset
      save(operand, SavedRegister::Where::kFromCfa, factored(code.unsigned_leb()));
      return true;
    case 3:  // DW_CFA_restore
      restore(operand);
      return true;
    default:
      return extended(code, operation);
  }
}

bool FrameMachine::extended(ByteReader& code, uint8_t operation) noexcept {
  switch (operation) {
    case 0x00:  // DW_CFA_nop
      return true;
    case 0x02:  // DW_CFA_advance_loc1, 2, 4
      location_ += code.fixed<uint8_t>() * code_align_;
      return true;
    case 0x03:
      location_ += code.fixed<uint16_t>() * code_align_;
      return true;
    case 0x04:
      location_ += code.fixed<uint32_t>() * code_align_;
      return true;
    case 0x05: {  // DW_CFA_offset_extended
      const uint64_t number = code.unsigned_leb();
      save(number, SavedRegister::Where::kFromCfa, factored(code.unsigned_leb()));
      return true;
    }
    case 0x06:  // DW_CFA_restore_extended
      restore(code.unsigned_leb());
      return true;
    case 0x07:  // DW_CFA_undefined
      save(code.unsigned_leb(), SavedRegister::Where::kUndefined);
      return true;
    case 0x08:  // DW_CFA_same_value
      save(code.unsigned_leb(), SavedRegister::Where::kInRegister);
      return true;
    case 0x09: {  // DW_CFA_register
      const uint64_t number = code.unsigned_leb();
      code.unsigned_leb();
      save(number, SavedRegister::Where::kElsewhere);
      return true;
    }
    case 0x0a:  // DW_CFA_remember_state
      if (remembered_count_ == kMostRemembered) return false;
      remembered_[remembered_count_++] = state_;
      return true;
    case 0x0b:  // DW_CFA_restore_state
      if (remembered_count_ == 0) return false;
      state_ = remembered_[--remembered_count_];
      return true;
    case 0x0c: {  // DW_CFA_def_cfa
      const uint64_t number = code.unsigned_leb();
      define_cfa(number, static_cast<int64_t>(code.unsigned_leb()));
      return true;
    }
    case 0x0d:  // DW_CFA_def_cfa_register
      state_.cfa_register = code.unsigned_leb();
      return true;
    case 0x0e:  // DW_CFA_def_cfa_offset
      state_.cfa_offset = static_cast<int64_t>(code.unsigned_leb());
      return true;
    case 0x0f: {  // DW_CFA_def_cfa_expression
      ByteReader expression = code.part(code.unsigned_leb());
      state_.cfa_known = read_expression(expression, &state_.cfa_register, &state_.cfa_offset,
                                         &state_.cfa_is_read);
      return true;
    }
    case 0x10: {  // DW_CFA_expression: where it is saved
      const uint64_t number = code.unsigned_leb();
      ByteReader expression = code.part(code.unsigned_leb());
      uint64_t base = 0;
      int64_t offset = 0;
      bool read = false;
      const bool simple =
          read_expression(expression, &base, &offset, &read) && !read && base == kStackPointer;
      save(number,
           simple ? SavedRegister::Where::kFromStackPointer : SavedRegister::Where::kElsewhere,
           offset);
      return true;
    }
    case 0x11: {  // DW_CFA_offset_extended_sf
      const uint64_t number = code.unsigned_leb();
      save(number, SavedRegister::Where::kFromCfa, code.signed_leb() * data_align_);
      return true;
    }
    case 0x12: {  // DW_CFA_def_cfa_sf
      const uint64_t number = code.unsigned_leb();
      define_cfa(number, code.signed_leb() * data_align_);
      return true;
    }
    case 0x13:  // DW_CFA_def_cfa_offset_sf
      state_.cfa_offset = code.signed_leb() * data_align_;
      return true;
    case 0x14:    // DW_CFA_val_offset
    case 0x15: {  // DW_CFA_val_offset_sf
      const uint64_t number = code.unsigned_leb();
      code.unsigned_leb();
      save(number, SavedRegister::Where::kElsewhere);
      return true;
    }
    case 0x16: {  // DW_CFA_val_expression
      const uint64_t number = code.unsigned_leb();
      code.skip(code.unsigned_leb());
      save(number, SavedRegister::Where::kElsewhere);
      return true;
    }
    case 0x2d:  // DW_CFA_AARCH64_negate_ra_state: the return address is signed; whoever reads it strips that
      return true;
    case 0x2e:  // DW_CFA_GNU_args_size
      code.unsigned_leb();
      return true;
    default:
      return false;
  }
}

}  // namespace memlimit::profile
