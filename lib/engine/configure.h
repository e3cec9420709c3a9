/* Hands the settings and the allocator to the engine's parts. Threads: once, at start, before the limit is set. */
#pragma once

#include "engine/allocator.h"
#include "settings/config.h"

namespace memlimit::engine {

void configure(const Config& config, const AllocatorOps& allocator) noexcept;

}  // namespace memlimit::engine
