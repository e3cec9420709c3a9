/* The stack of a language that is interpreted, as the runtime in the process knows it: what the profile shows in place of the
 * interpreter's own frames.
 *
 * Threads: set_script_runtime() any, once or twice in a process's life; the functions of a runtime as it says.
 */
#pragma once

#include <cstddef>
#include <cstdint>

namespace memlimit::profile {

struct ScriptRuntime {
  /* Where the function lies that interprets: a frame that returns there is replaced by what follows. */
  uintptr_t begin, end;

  /** Writes a text for each frame of the calling thread, innermost first, as "function file:line"; calls `add` with it, which
   *  says whether there is room for more. In malloc: no lock, no allocation; reads only what it knows to be readable. */
  void (*frames)(bool (*add)(void* context, const char* text, size_t length) noexcept,
                 void* context) noexcept;
};

/** The table lives for ever. */
void set_script_runtime(const ScriptRuntime& runtime) noexcept;

/** nullptr: there is none. */
const ScriptRuntime* script_runtime() noexcept;

}  // namespace memlimit::profile
