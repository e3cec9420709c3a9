/* Cold halves of the entry points; see slow_path.h. Runs on the program's threads, inside malloc and
 * free, so errno is saved and nothing here allocates through the entry points. */
#include "slow_path.h"

#include "account.h"
#include "backing.h"
#include "os.h"
#include "reclaim.h"

namespace memlimit::slow {

void* allocated(void* block, size_t usable_bytes) noexcept {
  os::ErrnoGuard guard;
  account::publish(usable_bytes, 0);
  reclaim::after_allocation(static_cast<int64_t>(usable_bytes));
  return block;
}

void freed(void* block, size_t usable_bytes) noexcept {
  os::ErrnoGuard guard;
  backing::release(block);
  account::publish(0, usable_bytes);
  reclaim::after_free();
}

void freed_already(size_t usable_bytes) noexcept {
  os::ErrnoGuard guard;
  account::publish(0, usable_bytes);
  reclaim::after_free();
}

}  // namespace memlimit::slow
