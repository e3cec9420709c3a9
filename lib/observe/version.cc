/* The one file that is compiled with the version, so that another version compiles one file; see version.h. */
#include "observe/version.h"

namespace memlimit {

const char kVersion[] = MEMLIMIT_VERSION;

}  // namespace memlimit
