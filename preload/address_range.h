/* A stretch of addresses. */
#pragma once

#include <cstdint>

namespace memlimit {

struct AddressRange {
  uintptr_t begin;
  uintptr_t end; /* the first behind it */
};

}  // namespace memlimit
