/* The Python functions that run on a thread, read from the interpreter's own structures: for the heap profile, in malloc.
 *
 * CPython 3.11 to 3.13. Nothing of the interpreter is called but the one function that reads which thread state is this
 * thread's; nothing is written, allocated or referenced. Only the thread that has the interpreter's lock (the GIL) is looked
 * at, and that is the thread itself: so what its frames lead to stays. Each object is taken for what it should be only if its
 * type says so, and all memory is asked for before it is read: an interpreter that was built otherwise shows no frames.
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtimes/elf_image.h"

namespace memlimit::runtimes::cpython_frames {

/** Lets the profile see the functions of this interpreter, if its version is known. Once; the image stays for ever. */
void watch(const ElfImage& image) noexcept;

/** The line of a place in a function's code, by its table of locations (Objects/locations.md of CPython 3.11); 0 where it has
 *  none. `offset` in bytes. Pure. */
int line_at(const unsigned char* table, size_t length, int first_line, unsigned offset) noexcept;

}  // namespace memlimit::runtimes::cpython_frames
