/* What std::terminate ends with in the C++ runtime that is linked in: its own would print what was thrown, and
 * carries 50 KiB of demangler into every process for that. */
#include <cstdlib>

namespace __gnu_cxx {
void __verbose_terminate_handler() { abort(); }
}  // namespace __gnu_cxx
