/* What mallctl answers, name by name: one table. Figures are the heap's, options are what this allocator does and cannot be
 * changed, and settings that would change nothing here are kept and told back.
 *
 * Refuses to pretend: what it has nothing for (profiles, mutexes, huge page shards, pointers to counters) has no name,
 * as in a jemalloc that was built without. Threads: any, outside malloc.
 */
#pragma once

#include <cstddef>

#include "jemalloc_answers.h"
#include "jemalloc_names.h"

namespace memlimit::jemalloc {

/** What "version" says. In jemalloc's form, since programs take it apart: the version whose names these are, the commits
 *  since, and whose build it is. */
inline constexpr char kVersion[] = "5.3.0-0-gmemlimit";

/** Every name there is, and who answers it, by the same number. */
Patterns names() noexcept;
Answer answer_of(size_t row) noexcept;

}  // namespace memlimit::jemalloc
