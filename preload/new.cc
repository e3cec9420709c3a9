/* Every replaceable operator new and delete of C++20.
 *
 * Two promises of the standard are the program's and not ours. When memory is out, its new_handler runs and
 * its std::bad_alloc is thrown: the functions of its own C++ runtime that ours stand in front of do both
 * (they call our malloc), so no frame of this library ever catches or throws. It could not: exceptions
 * of another runtime cannot be caught by the copy linked in here, which has an unwinder of its own.
 * And the forms that by default call another form ([new.delete.single], [new.delete.array]) call it by its
 * public name, so that a program that replaces only operator new(size_t) and operator delete(void*) gets
 * the blocks of new[], and the sized deletes, that belong to it.
 */
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include <dlfcn.h>
#include <link.h>

#include "heap/heap.h"
#include "system/os.h"

using namespace memlimit;

extern "C" {

/* The forms that others call by default, under their public names: the program's where it replaces them,
 * else those below. Reached through the global offset table: one jump. The linker makes the public names of
 * these (see internal_heap_args in meson.build); under those the compiler would call what it finds here. */
void* memlimit_public_new(size_t bytes) __asm__("__real__Znwm");
void* memlimit_public_new_array(size_t bytes) __asm__("__real__Znam");
void* memlimit_public_new_aligned(size_t bytes, std::align_val_t alignment) __asm__(
    "__real__ZnwmSt11align_val_t");
void* memlimit_public_new_array_aligned(size_t bytes, std::align_val_t alignment) __asm__(
    "__real__ZnamSt11align_val_t");
void memlimit_public_delete(void* block) noexcept __asm__("__real__ZdlPv");
void memlimit_public_delete_array(void* block) noexcept __asm__("__real__ZdaPv");
void memlimit_public_delete_aligned(void* block, std::align_val_t alignment) noexcept
    __asm__("__real__ZdlPvSt11align_val_t");
void memlimit_public_delete_array_aligned(void* block, std::align_val_t alignment) noexcept
    __asm__("__real__ZdaPvSt11align_val_t");

/* Ours, under names that nobody can replace. */
__attribute__((visibility("hidden"))) void* memlimit_own_new(size_t bytes);
__attribute__((visibility("hidden"))) void* memlimit_own_new_array(size_t bytes);
__attribute__((visibility("hidden"))) void* memlimit_own_new_aligned(size_t bytes,
                                                                     std::align_val_t alignment);
__attribute__((visibility("hidden"))) void* memlimit_own_new_array_aligned(
    size_t bytes, std::align_val_t alignment);

}  // extern "C"

namespace {

constexpr size_t kLargestBytes = PTRDIFF_MAX;

/* True when the address lies in this library. */
bool is_ours(const void* address) noexcept {
  static const char anchor = 0;
  Dl_info here, there;
  return dladdr(&anchor, &here) != 0 && dladdr(address, &there) != 0 &&
         here.dli_fbase == there.dli_fbase;
}

#if defined(RTLD_DL_LINKMAP)
/* The object that contains an address; nullptr when there is none. */
const link_map* object_of(const void* address) noexcept {
  Dl_info info;
  void* map = nullptr;
  if (dladdr1(address, &info, &map, RTLD_DL_LINKMAP) == 0) return nullptr;
  return static_cast<const link_map*>(map);
}

const char* name_of(const link_map* object) noexcept { return object->l_name; }
#else
/* musl tells no more of an object than its name, which is one for all of its addresses, and lasts: nothing is unloaded. */
const char* object_of(const void* address) noexcept {
  Dl_info info;
  return dladdr(address, &info) == 0 ? nullptr : info.dli_fname;
}

const char* name_of(const char* object) noexcept { return object; }
#endif

using Object = decltype(object_of(nullptr));

/* dlsym in one object and what it depends on. */
void* symbol_of(Object object, const char* name) noexcept {
  if (object == nullptr) return nullptr;
  void* const handle = dlopen(name_of(object), RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return nullptr;
  void* const symbol = dlsym(handle, name);
  dlclose(handle);
  return symbol;
}

/* The function of that name in the C++ runtime that the caller uses, found by way of __cxa_throw, which
 * nobody else defines: the operators themselves are found here first, and libmimalloc has some, too. First
 * in the global scope, which takes no memory, since there is none; then from the caller, because the
 * runtime of a module that was loaded with RTLD_LOCAL is in no global scope. */
void* in_runtime_of(const void* caller, const char* name) noexcept {
  void* found = nullptr;
  if (void* const throwing = dlsym(RTLD_DEFAULT, "__cxa_throw")) {
    const Object runtime = object_of(throwing);
    found = dlsym(RTLD_NEXT, name);
    if (found == nullptr || object_of(found) != runtime) found = symbol_of(runtime, name);
  } else {
    found = symbol_of(object_of(symbol_of(object_of(caller), "__cxa_throw")), name);
  }
  return found == nullptr || is_ours(found) ? nullptr : found;
}

[[noreturn]] MEMLIMIT_COLD void no_runtime() noexcept {
  constexpr char kText[] =
      "memlimit: operator new is out of memory, and no C++ runtime is there to throw bad_alloc\n";
  os::write_all(2, kText, sizeof kText - 1);
  abort();
}

/* The slow halves: `caller` is where operator new was called from. Not noexcept: they throw, and the
 * frames between have nothing to clean up. The size is capped because libstdc++ 12 rounds it up to the
 * alignment without a look at what that makes of SIZE_MAX. */
MEMLIMIT_COLD void* new_out_of_memory(const void* caller, const char* name, size_t bytes) {
  const auto again = reinterpret_cast<void* (*)(size_t)>(in_runtime_of(caller, name));
  if (again == nullptr) no_runtime();
  return again(std::min(bytes, kLargestBytes));
}

MEMLIMIT_COLD void* new_out_of_memory(const void* caller, const char* name, size_t bytes,
                                      std::align_val_t alignment) {
  using Again = void* (*)(size_t, std::align_val_t);
  const auto again = reinterpret_cast<Again>(in_runtime_of(caller, name));
  if (again == nullptr) no_runtime();
  return again(std::min(bytes, kLargestBytes), alignment);
}

/* A nothrow form is its throwing form with the exception caught, by the runtime that threw it. Without a
 * runtime there is no handler to ask either. */
MEMLIMIT_COLD void* new_nothrow_slow(const void* caller, const char* name, size_t bytes) {
  using Again = void* (*)(size_t, const std::nothrow_t&);
  const auto again = reinterpret_cast<Again>(in_runtime_of(caller, name));
  return again == nullptr ? nullptr : again(std::min(bytes, kLargestBytes), std::nothrow);
}

MEMLIMIT_COLD void* new_nothrow_slow(const void* caller, const char* name, size_t bytes,
                                     std::align_val_t alignment) {
  using Again = void* (*)(size_t, std::align_val_t, const std::nothrow_t&);
  const auto again = reinterpret_cast<Again>(in_runtime_of(caller, name));
  return again == nullptr ? nullptr
                          : again(std::min(bytes, kLargestBytes), alignment, std::nothrow);
}

}  // namespace

namespace {

MEMLIMIT_ALWAYS_INLINE void* or_throw(void* block, const void* caller, size_t bytes) {
  if (MEMLIMIT_LIKELY(block != nullptr)) return block;
  return new_out_of_memory(caller, "_Znwm", bytes);
}

__attribute__((noinline)) void* new_larger(size_t bytes, const void* caller) {
  return or_throw(heap::Leave::larger(bytes), caller, bytes);
}
__attribute__((noinline)) void* new_from_spans(size_t class_index, const void* caller) {
  return or_throw(heap::Leave::from_spans(class_index), caller,
                  heap::kClasses[class_index].block_bytes);
}

/* As heap::Leave, but throws when there is no memory, so that only these paths test for it. The handler
 * then sees the size of the block instead of the one asked for: the same block. Inline, so that the
 * address that is returned to is the one of operator new's caller, and read only here. */
struct LeaveOrThrow {
  static MEMLIMIT_ALWAYS_INLINE void* larger(size_t bytes) {
    return new_larger(bytes, __builtin_return_address(0));
  }
  static MEMLIMIT_ALWAYS_INLINE void* from_spans(size_t class_index) {
    return new_from_spans(class_index, __builtin_return_address(0));
  }
};

}  // namespace

void* memlimit_own_new(size_t bytes) { return heap::allocate<LeaveOrThrow>(bytes); }

void* memlimit_own_new_aligned(size_t bytes, std::align_val_t alignment) {
  void* const block = heap::allocate_aligned(static_cast<size_t>(alignment), bytes);
  if (MEMLIMIT_LIKELY(block != nullptr)) return block;
  return new_out_of_memory(__builtin_return_address(0), "_ZnwmSt11align_val_t", bytes, alignment);
}

void* memlimit_own_new_array(size_t bytes) { return memlimit_public_new(bytes); }

void* memlimit_own_new_array_aligned(size_t bytes, std::align_val_t alignment) {
  return memlimit_public_new_aligned(bytes, alignment);
}

namespace {

/* True when the public name is still ours. The compiler would answer for itself: two names, two functions. */
template <typename Function>
MEMLIMIT_ALWAYS_INLINE bool same(Function* in_force, Function* own) noexcept {
  __asm__("" : "+r"(in_force));
  return in_force == own;
}

/* Whether the throwing forms that a nothrow form stands for are still ours. */
MEMLIMIT_ALWAYS_INLINE bool own_new_in_force(bool array) noexcept {
  return same(memlimit_public_new, memlimit_own_new) &&
         (!array || same(memlimit_public_new_array, memlimit_own_new_array));
}

MEMLIMIT_ALWAYS_INLINE bool own_new_aligned_in_force(bool array) noexcept {
  return same(memlimit_public_new_aligned, memlimit_own_new_aligned) &&
         (!array || same(memlimit_public_new_array_aligned, memlimit_own_new_array_aligned));
}

MEMLIMIT_ALWAYS_INLINE void* new_nothrow(bool array, size_t bytes, const void* caller) noexcept {
  if (MEMLIMIT_LIKELY(own_new_in_force(array))) {
    void* const block = heap::allocate(bytes);
    if (MEMLIMIT_LIKELY(block != nullptr)) return block;
  }
  return new_nothrow_slow(caller, array ? "_ZnamRKSt9nothrow_t" : "_ZnwmRKSt9nothrow_t", bytes);
}

MEMLIMIT_ALWAYS_INLINE void* new_nothrow(bool array, size_t bytes, std::align_val_t alignment,
                                         const void* caller) noexcept {
  if (MEMLIMIT_LIKELY(own_new_aligned_in_force(array))) {
    void* const block = heap::allocate_aligned(static_cast<size_t>(alignment), bytes);
    if (MEMLIMIT_LIKELY(block != nullptr)) return block;
  }
  const char* const name =
      array ? "_ZnamSt11align_val_tRKSt9nothrow_t" : "_ZnwmSt11align_val_tRKSt9nothrow_t";
  return new_nothrow_slow(caller, name, bytes, alignment);
}

}  // namespace

// clang-format off
MEMLIMIT_EXPORT void* operator new(size_t bytes) __attribute__((alias("memlimit_own_new")));
MEMLIMIT_EXPORT void* operator new[](size_t bytes) __attribute__((alias("memlimit_own_new_array")));
MEMLIMIT_EXPORT void* operator new(size_t bytes, std::align_val_t alignment) __attribute__((alias("memlimit_own_new_aligned")));
MEMLIMIT_EXPORT void* operator new[](size_t bytes, std::align_val_t alignment) __attribute__((alias("memlimit_own_new_array_aligned")));
MEMLIMIT_EXPORT void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return new_nothrow(false, bytes, __builtin_return_address(0)); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return new_nothrow(true, bytes, __builtin_return_address(0)); }
MEMLIMIT_EXPORT void* operator new(size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept { return new_nothrow(false, bytes, alignment, __builtin_return_address(0)); }
MEMLIMIT_EXPORT void* operator new[](size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept { return new_nothrow(true, bytes, alignment, __builtin_return_address(0)); }

MEMLIMIT_EXPORT void operator delete(void* block) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block) noexcept { memlimit_public_delete(block); }
MEMLIMIT_EXPORT void operator delete(void* block, const std::nothrow_t&) noexcept { memlimit_public_delete(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, const std::nothrow_t&) noexcept { memlimit_public_delete_array(block); }
MEMLIMIT_EXPORT void operator delete(void* block, size_t) noexcept { memlimit_public_delete(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, size_t) noexcept { memlimit_public_delete_array(block); }
MEMLIMIT_EXPORT void operator delete(void* block, std::align_val_t) noexcept { heap::release(block); }
MEMLIMIT_EXPORT void operator delete[](void* block, std::align_val_t alignment) noexcept { memlimit_public_delete_aligned(block, alignment); }
MEMLIMIT_EXPORT void operator delete(void* block, size_t, std::align_val_t alignment) noexcept { memlimit_public_delete_aligned(block, alignment); }
MEMLIMIT_EXPORT void operator delete[](void* block, size_t, std::align_val_t alignment) noexcept { memlimit_public_delete_array_aligned(block, alignment); }
MEMLIMIT_EXPORT void operator delete(void* block, std::align_val_t alignment, const std::nothrow_t&) noexcept { memlimit_public_delete_aligned(block, alignment); }
MEMLIMIT_EXPORT void operator delete[](void* block, std::align_val_t alignment, const std::nothrow_t&) noexcept { memlimit_public_delete_array_aligned(block, alignment); }
// clang-format on
