/* operator new and delete as this library's own C++ code sees them (spdlog on the service thread, and the C++
 * runtime that is linked in): the linker's --wrap sends its calls here instead of to the public names.
 *
 * The public ones may be the program's. It may have written them for its one thread, and a service thread that
 * it knows nothing of must not run them. A failure throws the linked-in runtime's bad_alloc, for our own code to
 * catch; the program's new_handler is not asked.
 */
#include <cstddef>
#include <new>

#include "entry.h"

using namespace memlimit;

namespace {

void* allocate(size_t bytes, size_t alignment = backing::kNaturalAlignment) {
  void* const block = entry::allocate_aligned(alignment, bytes);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

// clang-format off
extern "C" {

void* __wrap__Znwm(size_t bytes) { return allocate(bytes); }
void* __wrap__Znam(size_t bytes) { return allocate(bytes); }
void* __wrap__ZnwmRKSt9nothrow_t(size_t bytes, const std::nothrow_t&) noexcept { return entry::allocate(bytes); }
void* __wrap__ZnamRKSt9nothrow_t(size_t bytes, const std::nothrow_t&) noexcept { return entry::allocate(bytes); }
void* __wrap__ZnwmSt11align_val_t(size_t bytes, size_t alignment) { return allocate(bytes, alignment); }
void* __wrap__ZnamSt11align_val_t(size_t bytes, size_t alignment) { return allocate(bytes, alignment); }
void* __wrap__ZnwmSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment, const std::nothrow_t&) noexcept { return entry::allocate_aligned(alignment, bytes); }
void* __wrap__ZnamSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment, const std::nothrow_t&) noexcept { return entry::allocate_aligned(alignment, bytes); }

void __wrap__ZdlPv(void* block) noexcept { entry::release(block); }
void __wrap__ZdaPv(void* block) noexcept { entry::release(block); }
void __wrap__ZdlPvRKSt9nothrow_t(void* block, const std::nothrow_t&) noexcept { entry::release(block); }
void __wrap__ZdaPvRKSt9nothrow_t(void* block, const std::nothrow_t&) noexcept { entry::release(block); }
void __wrap__ZdlPvm(void* block, size_t) noexcept { entry::release(block); }
void __wrap__ZdaPvm(void* block, size_t) noexcept { entry::release(block); }
void __wrap__ZdlPvSt11align_val_t(void* block, size_t) noexcept { entry::release(block); }
void __wrap__ZdaPvSt11align_val_t(void* block, size_t) noexcept { entry::release(block); }
void __wrap__ZdlPvmSt11align_val_t(void* block, size_t, size_t) noexcept { entry::release(block); }
void __wrap__ZdaPvmSt11align_val_t(void* block, size_t, size_t) noexcept { entry::release(block); }
void __wrap__ZdlPvSt11align_val_tRKSt9nothrow_t(void* block, size_t, const std::nothrow_t&) noexcept { entry::release(block); }
void __wrap__ZdaPvSt11align_val_tRKSt9nothrow_t(void* block, size_t, const std::nothrow_t&) noexcept { entry::release(block); }

}  // extern "C"
// clang-format on
