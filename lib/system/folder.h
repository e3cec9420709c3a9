/* The names in a folder, without allocating and without libc's streams.
 *
 * Threads: any, each with a descriptor of its own. About 4 KiB of stack; errno is kept.
 */
#pragma once

namespace memlimit::os {

/** Calls `visit` with each name in the open folder, "." and ".." included, until it returns false. A folder that never
 *  ends is left after some 100,000 names. */
void for_each_name(int folder, bool (*visit)(const char* name, void* arg), void* arg) noexcept;

/** The same of a folder by its path; nothing when it cannot be opened. */
void for_each_name(const char* path, bool (*visit)(const char* name, void* arg),
                   void* arg) noexcept;

}  // namespace memlimit::os
