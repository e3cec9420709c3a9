/* malloc and operator new as this library's own C++ code sees them (spdlog on the service thread, and the C++
 * runtime that is linked in): the linker's --wrap sends its calls here instead of to the public names.
 *
 * The public ones may be the program's. It may have written them for its one thread, and a service thread that
 * it knows nothing of must not run them. A failure throws the linked-in runtime's bad_alloc, for our own code to
 * catch; the program's new_handler is not asked.
 */
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>

#include "heap/heap.h"

using namespace memlimit;

namespace {

void* allocate(size_t bytes, size_t alignment = heap::kMinimumAlignment) {
  void* const block = heap::allocate_aligned(alignment, bytes);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

/* What libstdc++ keeps for exceptions when no memory is left. Its constructor takes it before main, 71 KiB in
 * GCC 12, and never gives it back: as zeros of the library it costs nothing until one is needed, and is not
 * counted as the program's. */
constexpr size_t kEmergencyPoolBytes = size_t{80} << 10;
constexpr size_t kLeastPoolBytes = size_t{32} << 10;
alignas(64) char emergency_pool[kEmergencyPoolBytes];
constinit std::atomic<bool> emergency_pool_taken{false};

bool in_emergency_pool(const void* block) noexcept {
  return block >= emergency_pool && block < emergency_pool + kEmergencyPoolBytes;
}

}  // namespace

extern "C" {

void* __wrap_malloc(size_t bytes) {
  const bool pool = bytes >= kLeastPoolBytes && bytes <= kEmergencyPoolBytes;
  if (pool && !emergency_pool_taken.exchange(true, std::memory_order_relaxed))
    return emergency_pool;
  return heap::allocate(bytes);
}

void __wrap_free(void* block) {
  if (!in_emergency_pool(block)) heap::release(block);
}

void* __wrap_calloc(size_t count, size_t bytes) {
  size_t all;
  if (__builtin_mul_overflow(count, bytes, &all)) {
    errno = ENOMEM;
    return nullptr;
  }
  void* const block = heap::allocate(all);
  return block == nullptr ? nullptr : memset(block, 0, all);
}

void* __wrap_realloc(void* old_block, size_t bytes) {
  void* const block = heap::allocate(bytes);
  if (block == nullptr || old_block == nullptr) return block;
  memcpy(block, old_block, std::min(bytes, heap::usable_bytes(old_block)));
  heap::release(old_block);
  return block;
}

}  // extern "C"

// clang-format off
extern "C" {

void* __wrap__Znwm(size_t bytes) { return allocate(bytes); }
void* __wrap__Znam(size_t bytes) { return allocate(bytes); }
void* __wrap__ZnwmRKSt9nothrow_t(size_t bytes, const std::nothrow_t&) noexcept { return heap::allocate(bytes); }
void* __wrap__ZnamRKSt9nothrow_t(size_t bytes, const std::nothrow_t&) noexcept { return heap::allocate(bytes); }
void* __wrap__ZnwmSt11align_val_t(size_t bytes, size_t alignment) { return allocate(bytes, alignment); }
void* __wrap__ZnamSt11align_val_t(size_t bytes, size_t alignment) { return allocate(bytes, alignment); }
void* __wrap__ZnwmSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment, const std::nothrow_t&) noexcept { return heap::allocate_aligned(alignment, bytes); }
void* __wrap__ZnamSt11align_val_tRKSt9nothrow_t(size_t bytes, size_t alignment, const std::nothrow_t&) noexcept { return heap::allocate_aligned(alignment, bytes); }

void __wrap__ZdlPv(void* block) noexcept { heap::release(block); }
void __wrap__ZdaPv(void* block) noexcept { heap::release(block); }
void __wrap__ZdlPvRKSt9nothrow_t(void* block, const std::nothrow_t&) noexcept { heap::release(block); }
void __wrap__ZdaPvRKSt9nothrow_t(void* block, const std::nothrow_t&) noexcept { heap::release(block); }
void __wrap__ZdlPvm(void* block, size_t) noexcept { heap::release(block); }
void __wrap__ZdaPvm(void* block, size_t) noexcept { heap::release(block); }
void __wrap__ZdlPvSt11align_val_t(void* block, size_t) noexcept { heap::release(block); }
void __wrap__ZdaPvSt11align_val_t(void* block, size_t) noexcept { heap::release(block); }
void __wrap__ZdlPvmSt11align_val_t(void* block, size_t, size_t) noexcept { heap::release(block); }
void __wrap__ZdaPvmSt11align_val_t(void* block, size_t, size_t) noexcept { heap::release(block); }
void __wrap__ZdlPvSt11align_val_tRKSt9nothrow_t(void* block, size_t, const std::nothrow_t&) noexcept { heap::release(block); }
void __wrap__ZdaPvSt11align_val_tRKSt9nothrow_t(void* block, size_t, const std::nothrow_t&) noexcept { heap::release(block); }

}  // extern "C"
// clang-format on
