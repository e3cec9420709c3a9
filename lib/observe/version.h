/* The version of the library, as meson.build has it. */
#pragma once

namespace memlimit {

/** For example "0.1.0". An array and no pointer: nothing to relocate when a process starts. */
extern const char kVersion[];

}  // namespace memlimit
