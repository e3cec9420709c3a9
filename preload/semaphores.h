/* Waits for semaphores, as the program calls them; see semaphores.cc. */
#pragma once

#include <ctime>

#include <semaphore.h>

#include "next_function.h"

namespace memlimit::semaphores {

/** libc's own. Found from the constructor: later the loader's lock would be needed. */
extern NextFunction<int(sem_t*)> real_wait;
extern NextFunction<int(sem_t*, clockid_t, const timespec*)> real_clockwait;

}  // namespace memlimit::semaphores
