/* Where PHP's engine keeps what the adapter reads and writes: offsets into its two global structures, by version.
 *
 * Nothing that PHP exports sets EG(vm_interrupt), so it takes offsets. They hold for a minor version as a whole: modules
 * that were compiled against one release are loaded by the next, and have them compiled in. Taken by offsetof from the
 * headers of Debian's php8.2-dev and php8.4-dev; the same on x86-64 and on aarch64.
 * Answers for: which offsets a version has, whether the structures look like it, and whether its interrupts can be relied on.
 * Refuses to write. Pure.
 * Threads: any.
 */
#pragma once

#include <cstdint>

namespace memlimit::runtimes::php {

struct Layout {
  int engine_minor; /* of Zend Engine 4, which is PHP 8's */

  /* in executor_globals */
  uint16_t bailout;
  uint16_t executor_functions; /* function_table */
  uint16_t executor_classes;   /* class_table */
  uint16_t vm_interrupt;
  uint16_t exception;
  uint16_t active;

  /* in compiler_globals */
  uint16_t compiler_functions;
  uint16_t compiler_classes;
};

/** By what get_zend_version() returns, "Zend Engine v4.2.36, Copyright ..."; nullptr: not a version that is known, or one
 *  before its first release, whose structures may still have changed. */
const Layout* layout_of(const char* engine_version) noexcept;

/** Whether executor_globals and compiler_globals may be of this layout, once PHP has begun its first request: both have the
 *  same two tables, and each flag is one. Reads only. */
bool fits(const Layout& layout, const void* executor, const void* compiler) noexcept;

/** Whether opcache compiles functions as a whole, rather than traces, by its settings opcache.jit_buffer_size and opcache.jit;
 *  nullptr: there is none of that name. */
bool compiles_functions(const char* buffer_size, const char* jit) noexcept;

}  // namespace memlimit::runtimes::php
