/* The one place where the parts are wired together: who takes part in rounds, what the service thread does, what fork
 * holds and resets. No other file names parts of different rooms.
 *
 * Threads: all of it once, from the constructor of the preload library.
 */
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/allocator.h"
#include "engine/fork.h"
#include "runtimes/registry.h"
#include "settings/config.h"

namespace memlimit {

/** What the interposition brings along. */
struct Interposition {
  AllocatorOps allocator;
  runtimes::LoaderCalls loader_calls;
};

/** Has fork() find every part of memlimit in the right order. May allocate. reset_allocator: in the child, before anything
 *  else looks at what the allocator holds; whether it has given up what other threads kept; allocates nothing. */
void register_fork_handlers(bool (*reset_allocator)() noexcept) noexcept;

/**
 * start() - from the settings to a process under a limit
 * @config:          lives for ever
 * @interposition:   copied
 * @xdg_runtime_dir: for the socket's place; copied; may be null
 *
 * Hands the settings to the parts, wires them, puts the limit in force and loads the plugins.
 *
 * Threads:   one
 * Context:   once, when every library of the program's start is relocated
 * Locks:     those of the parts
 * Allocates: as plugins do; a service thread may be started
 * Return:    how many files that settings name cannot be used: plugins, and under MEMLIMIT_STRICT the socket
 */
int start(const Config& config, const Interposition& interposition,
          const char* xdg_runtime_dir) noexcept;

}  // namespace memlimit
