/* See misuse.h. */
#include "heap/misuse.h"

#include <cstdint>
#include <cstdlib>

#include "system/os.h"
#include "system/text.h"

namespace memlimit::heap {

void report_misuse(Misuse what, const void* address, size_t block_bytes) noexcept {
  char line[128];
  TextWriter text(line, sizeof line);
  text.put("memlimit: free(): ")
      .put(what == Misuse::kDoubleFree ? "double free of 0x" : "invalid pointer 0x")
      .put_uint(reinterpret_cast<uintptr_t>(address), 16);
  if (block_bytes != 0) text.put(" (a block of ").put_uint(block_bytes).put(" bytes)");
  text.put("\n");
  os::write_all(2, line, text.length());
  abort();
}

}  // namespace memlimit::heap
