/* Which adapters may attach, which have, and which of those no round asks.
 *
 * By an adapter's number, its place in kAdapters. Threads: any, inside malloc too; a few atomic loads each, unless said
 * otherwise. Allocates: no.
 */
#pragma once

#include <cstddef>

#include "runtimes/adapter.h"
#include "settings/config.h"

namespace memlimit::runtimes::attached {

/** What MEMLIMIT_ADAPTERS says. Once, at start. */
void configure(const Config& config) noexcept;

size_t number_of(const Adapter& adapter) noexcept;

/** MEMLIMIT_ADAPTERS lets it attach. */
bool is_wanted(size_t index) noexcept;

/** It is not wanted, because it has to be named and MEMLIMIT_ADAPTERS names none. */
bool waits_for_its_name(size_t index) noexcept;

/** It has attached; what attach() wrote is seen. For ever. */
bool is(size_t index) noexcept;
bool any() noexcept;

/** It has attached, and rounds may ask it; how many do. */
bool takes_part(size_t index) noexcept;
int count() noexcept;

/** It has attached. One thread at a time. */
void add(size_t index) noexcept;

}  // namespace memlimit::runtimes::attached
