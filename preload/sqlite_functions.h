/* Where the real functions are that sqlite.cc stands in front of.
 *
 * Looked up for each caller's image, since most libraries are loaded with RTLD_LOCAL and a process may have
 * several copies of SQLite; kept until an image is loaded or unloaded. Never by dlsym or dlopen: see
 * loaded_images.h.
 * Threads: the program's, outside malloc. Keeps errno and dlerror().
 */
#pragma once

#include <cstdint>

namespace memlimit::sqlite_functions {

enum class Function : uint8_t { kOpen, kOpen16, kOpenV2, kClose, kCloseV2 };

/** What the caller at this address would have got without us; nullptr: there is none. */
void* real(Function function, const void* caller) noexcept;

/** The one in the same image as the address; nullptr: it has none, or there is no such image any more. */
void* beside(Function function, const void* address) noexcept;

}  // namespace memlimit::sqlite_functions
