/* Waits for events, as the program calls them; see waits.cc. */
#pragma once

namespace memlimit::waits {

/** Finds libc's own functions, which no signal handler is to have to; those of semaphores.h, too. From the
 *  constructor. */
void find_functions() noexcept;

}  // namespace memlimit::waits
