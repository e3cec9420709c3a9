/* MEMLIMIT_PLUGINS: shared objects that register hooks when they are loaded.
 *
 * Answers for: loading each of them, in their order, and one line on standard error for each that cannot
 * be. Refuses to know what is in them. Threads: one of the two functions once, from the constructor.
 */
#pragma once

#include "settings/config.h"

namespace memlimit {

/** Loads them; they stay. Returns how many could not be loaded. */
int load_plugins(const Config& config) noexcept;

/** Only looks whether their files can be read: where settings are checked (MEMLIMIT_STRICT=check), the process
 *  is not the program they are made for, and may be another user's. Returns how many cannot. */
int check_plugins(const Config& config) noexcept;

}  // namespace memlimit
