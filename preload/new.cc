/* Every replaceable operator new and delete of C++20.
 *
 * The new_handler loop and std::bad_alloc must be those of the program's C++ runtime, not of the copy
 * linked into this library: both are found by name when memory is out, which is the only time they are
 * needed. A throw made by the program's own runtime passes through these frames by their unwind tables.
 */
#include <cstddef>
#include <cstdlib>
#include <new>

#include <dlfcn.h>

#include "entry.h"

using namespace memlimit;

namespace {

using NewHandler = void (*)();
using GetNewHandler = NewHandler (*)();
using ThrowBadAlloc = void (*)();

/* The program's runtime is looked up each time: it may be loaded later than the first failure. */
template <typename Function>
Function in_program(const char* name) noexcept {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

/* Runs the handler and tries again, for as long as there is one ([new.delete.single]). The handler may
 * throw: so nothing here is noexcept. Returns nullptr when there is no handler. */
MEMLIMIT_COLD void* new_slow(size_t alignment, size_t bytes) {
  for (;;) {
    const auto get = in_program<GetNewHandler>("_ZSt15get_new_handlerv");
    const NewHandler handler = get != nullptr ? get() : nullptr;
    if (handler == nullptr) return nullptr;
    handler();
    if (void* const block = entry::allocate_aligned(alignment, bytes)) return block;
  }
}

MEMLIMIT_COLD void* new_or_throw(size_t alignment, size_t bytes) {
  if (void* const block = new_slow(alignment, bytes)) return block;
  if (const auto raise = in_program<ThrowBadAlloc>("_ZSt17__throw_bad_allocv")) raise();
  // A runtime without that name (libc++): our own std::bad_alloc has the same mangled name, by which
  // catch clauses compare.
  throw std::bad_alloc();
}

MEMLIMIT_COLD void* new_or_null(size_t alignment, size_t bytes) noexcept {
  try {
    return new_slow(alignment, bytes);
  } catch (...) {
    return nullptr;
  }
}

MEMLIMIT_ALWAYS_INLINE void* do_new(size_t bytes) {
  if (void* const block = entry::allocate(bytes); MEMLIMIT_LIKELY(block != nullptr)) return block;
  return new_or_throw(backing::kNaturalAlignment, bytes);
}

MEMLIMIT_ALWAYS_INLINE void* do_new_nothrow(size_t bytes) noexcept {
  if (void* const block = entry::allocate(bytes); MEMLIMIT_LIKELY(block != nullptr)) return block;
  return new_or_null(backing::kNaturalAlignment, bytes);
}

MEMLIMIT_ALWAYS_INLINE void* do_new_aligned(size_t bytes, std::align_val_t alignment) {
  const auto align = static_cast<size_t>(alignment);
  if (void* const block = entry::allocate_aligned(align, bytes);
      MEMLIMIT_LIKELY(block != nullptr)) {
    return block;
  }
  return new_or_throw(align, bytes);
}

MEMLIMIT_ALWAYS_INLINE void* do_new_aligned_nothrow(size_t bytes,
                                                    std::align_val_t alignment) noexcept {
  const auto align = static_cast<size_t>(alignment);
  if (void* const block = entry::allocate_aligned(align, bytes);
      MEMLIMIT_LIKELY(block != nullptr)) {
    return block;
  }
  return new_or_null(align, bytes);
}

}  // namespace

// clang-format off
MEMLIMIT_EXPORT void* operator new(size_t bytes) { return do_new(bytes); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes) { return do_new(bytes); }
MEMLIMIT_EXPORT void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return do_new_nothrow(bytes); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return do_new_nothrow(bytes); }
MEMLIMIT_EXPORT void* operator new(size_t bytes, std::align_val_t alignment) { return do_new_aligned(bytes, alignment); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes, std::align_val_t alignment) { return do_new_aligned(bytes, alignment); }
MEMLIMIT_EXPORT void* operator new(size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept { return do_new_aligned_nothrow(bytes, alignment); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept { return do_new_aligned_nothrow(bytes, alignment); }

MEMLIMIT_EXPORT void operator delete(void* block) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, const std::nothrow_t&) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, const std::nothrow_t&) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, size_t) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, size_t) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, std::align_val_t) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, std::align_val_t) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, size_t, std::align_val_t) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, size_t, std::align_val_t) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept { entry::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept { entry::release(block); }
// clang-format on
