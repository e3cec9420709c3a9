/* See configure.h. */
#include "engine/configure.h"

#include "engine/assist.h"
#include "engine/decision.h"
#include "engine/figures.h"
#include "engine/paced.h"

namespace memlimit::engine {

void configure(const Config& config, const AllocatorOps& ops) noexcept {
  set_allocator(ops);
  assist::configure(config.assist_ns);
  figures::configure(config.invalid_count());
  paced::configure(config.account);
  decision::configure(config);
}

}  // namespace memlimit::engine
