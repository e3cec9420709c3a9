/* Which of the loaded images a call that came to us was meant for.
 *
 * Answers for: finding the function that a caller would have reached without us, by the images' own tables
 * and in the loader's order, and for telling whether an image can have been unloaded. Refuses to ask the
 * loader by dlsym or dlopen: these wait for its lock, which dlclose holds while destructors run (one of
 * which may wait for a thread that calls us), and they take away what dlerror() had to tell.
 * Threads: any, outside malloc. dl_iterate_phdr's lock is taken for as long as it takes; it is recursive.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit::runtimes {

/** How many images have come and gone. The loaded ones are the same for as long as it is. */
struct Generation {
  unsigned long long added = 0;
  unsigned long long removed = 0;
  bool operator==(const Generation&) const = default;
};
Generation generation() noexcept;

/** What was found, and for whom it holds as long as the generation is the same: callers in this range. */
struct Found {
  void* function = nullptr;
  uintptr_t begin = 0;
  uintptr_t end = 0;
  Generation generation;
};

/** The function of this name that a call from `caller` would have reached if the image of `self` defined
 *  none: of the images that were loaded with the program the first behind that of `self`; else the
 *  caller's image or the nearest that it is linked with; else any, for a caller that got the address from
 *  somebody else. */
Found definition_for(const char* name, const void* caller, const void* self) noexcept;

/** The function of this name in the image that the address lies in. */
Found definition_beside(const char* name, const void* address) noexcept;

/** Whether the image that the address lies in was loaded with the program, and so is never unloaded. */
bool loaded_with_program(const void* address) noexcept;

/** The file of the image that the address lies in, as the loader names it; false when there is none, or it
 *  does not fit. */
bool path_of(const void* address, char* out, size_t cap) noexcept;

}  // namespace memlimit::runtimes
