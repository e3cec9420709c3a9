/* sqlite3_open and sqlite3_close in their variants, seen on their way to the real ones.
 *
 * The library is mostly loaded with RTLD_LOCAL (an extension module brings it), and a program may carry
 * several copies of it: so the real function is the one the caller would have got without us - that of
 * the global scope, else that of the caller's own dependencies.
 * Threads: the program's, outside malloc.
 */
#include <dlfcn.h>

#include "adapters/elf_image.h"
#include "adapters/sqlite.h"
#include "attributes.h"
#include "os.h"

using namespace memlimit;
using adapters::sqlite::Connection;

namespace {

constexpr int kOk = 0;      /* SQLITE_OK */
constexpr int kMisuse = 21; /* SQLITE_MISUSE */

/* nullptr: there is none, so nobody but a caller through a weak reference can come here. */
template <typename Function>
Function real_function(const char* name, const void* caller) noexcept {
  os::ErrnoGuard errno_guard;
  if (void* const next = dlsym(RTLD_NEXT, name)) return reinterpret_cast<Function>(next);
  dlerror();  // not the program's to find
  adapters::ElfImage image;
  if (!adapters::image_of(caller, &image)) return nullptr;
  void* const handle = dlopen(image.path(), RTLD_NOLOAD | RTLD_LAZY);
  if (handle == nullptr) return nullptr;
  void* const found = dlsym(handle, name);
  // The caller is running, so the image stays without this handle.
  dlclose(handle);
  return reinterpret_cast<Function>(found);
}

template <typename Function, typename... Arguments>
MEMLIMIT_ALWAYS_INLINE int forward_open(const char* name, const void* caller, Connection** out,
                                        Arguments... arguments) {
  const auto real = real_function<Function>(name, caller);
  if (real == nullptr) return kMisuse;
  const int result = real(arguments...);
  // A failed open leaves a connection, too, for its error message; it is closed like others.
  if (result == kOk && out != nullptr) {
    adapters::sqlite::opened(*out, reinterpret_cast<const void*>(real));
  }
  return result;
}

MEMLIMIT_ALWAYS_INLINE int forward_close(const char* name, const void* caller,
                                         Connection* connection) {
  const auto real = real_function<int (*)(Connection*)>(name, caller);
  if (real == nullptr) return kMisuse;
  const bool known = adapters::sqlite::closing(connection);
  const int result = real(connection);
  // Busy: it stays open.
  if (result != kOk && known) {
    adapters::sqlite::opened(connection, reinterpret_cast<const void*>(real));
  }
  return result;
}

}  // namespace

extern "C" {

MEMLIMIT_EXPORT int sqlite3_open(const char* path, Connection** out) {
  return forward_open<int (*)(const char*, Connection**)>(
      "sqlite3_open", __builtin_return_address(0), out, path, out);
}

MEMLIMIT_EXPORT int sqlite3_open16(const void* path, Connection** out) {
  return forward_open<int (*)(const void*, Connection**)>(
      "sqlite3_open16", __builtin_return_address(0), out, path, out);
}

MEMLIMIT_EXPORT int sqlite3_open_v2(const char* path, Connection** out, int flags,
                                    const char* vfs) {
  return forward_open<int (*)(const char*, Connection**, int, const char*)>(
      "sqlite3_open_v2", __builtin_return_address(0), out, path, out, flags, vfs);
}

MEMLIMIT_EXPORT int sqlite3_close(Connection* connection) {
  return forward_close("sqlite3_close", __builtin_return_address(0), connection);
}

MEMLIMIT_EXPORT int sqlite3_close_v2(Connection* connection) {
  return forward_close("sqlite3_close_v2", __builtin_return_address(0), connection);
}

}  // extern "C"
