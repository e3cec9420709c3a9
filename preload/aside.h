/* What ours stands before, to step aside; see aside.cc. */
#pragma once

#include "next_function.h"

namespace memlimit::aside {

/** libc's own, or another library's that stands before it. Found from the constructor. */
extern NextSymbol real_fork;

}  // namespace memlimit::aside
