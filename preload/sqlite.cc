/* sqlite3_open and sqlite3_close in their variants, seen on their way to the real ones.
 *
 * A connection is closed where it was opened: a caller may not be linked with SQLite (a loadable extension
 * has a table of its functions, with ours in it), and a process may carry several copies.
 * Threads: the program's, outside malloc.
 */
#include "runtimes/sqlite.h"
#include "sqlite_functions.h"
#include "system/attributes.h"

using namespace memlimit;
using runtimes::sqlite::Connection;
using sqlite_functions::Function;

namespace {

constexpr int kOk = 0;      /* SQLITE_OK */
constexpr int kMisuse = 21; /* SQLITE_MISUSE */

/* Without a real function nobody can come here but a caller through a weak reference. */
template <typename... Arguments>
MEMLIMIT_ALWAYS_INLINE int forward_open(Function function, const void* caller, Connection** out,
                                        Arguments... arguments) {
  void* const real = sqlite_functions::real(function, caller);
  if (real == nullptr) {
    if (out != nullptr) *out = nullptr;
    return kMisuse;
  }
  const int result = reinterpret_cast<int (*)(Arguments...)>(real)(arguments...);
  // A failed open leaves a connection, too, for its error message; it is closed like others.
  if (out != nullptr && *out != nullptr) {
    runtimes::sqlite::opened(*out, real, result == kOk);
  }
  return result;
}

MEMLIMIT_ALWAYS_INLINE int forward_close(Function function, const void* caller,
                                         Connection* connection) {
  bool usable = false;
  const void* const opener = runtimes::sqlite::closing(connection, &usable);
  void* real = opener == nullptr ? nullptr : sqlite_functions::beside(function, opener);
  if (real == nullptr) real = sqlite_functions::real(function, caller);
  if (real == nullptr) return connection == nullptr ? kOk : kMisuse;
  const int result = reinterpret_cast<int (*)(Connection*)>(real)(connection);
  // Busy: it stays open.
  if (result != kOk && opener != nullptr) runtimes::sqlite::opened(connection, opener, usable);
  return result;
}

}  // namespace

extern "C" {

MEMLIMIT_EXPORT int sqlite3_open(const char* path, Connection** out) {
  return forward_open(Function::kOpen, __builtin_return_address(0), out, path, out);
}

MEMLIMIT_EXPORT int sqlite3_open16(const void* path, Connection** out) {
  return forward_open(Function::kOpen16, __builtin_return_address(0), out, path, out);
}

MEMLIMIT_EXPORT int sqlite3_open_v2(const char* path, Connection** out, int flags,
                                    const char* vfs) {
  return forward_open(Function::kOpenV2, __builtin_return_address(0), out, path, out, flags, vfs);
}

MEMLIMIT_EXPORT int sqlite3_close(Connection* connection) {
  return forward_close(Function::kClose, __builtin_return_address(0), connection);
}

MEMLIMIT_EXPORT int sqlite3_close_v2(Connection* connection) {
  return forward_close(Function::kCloseV2, __builtin_return_address(0), connection);
}

}  // extern "C"
