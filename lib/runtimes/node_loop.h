/* Node's event loop: how a thread of V8 is woken that waits for events and runs no JavaScript.
 *
 * Answers for: a wake-up call for each environment of Node, and its end before the environment's. It is what an add-on
 * would make: an async handle of libuv, which does not keep the loop alive, closed by a cleanup hook of the environment.
 * Refuses to know what is done on the thread. Programs with V8 that are not Node (or hide its functions) have none.
 * Threads: as said for each function.
 */
#pragma once

#include "runtimes/elf_image.h"

namespace memlimit::runtimes::node_loop {

using Isolate = void;

/** What is called on a thread that was woken, from its event loop: no JavaScript is on its stack. */
using Woken = void (*)(Isolate*);

/** Takes what it needs from the image of V8: nothing where it is not Node's. Once, before all others. */
void attach(const ElfImage& image, Woken woken) noexcept;

/** Whether the isolate has to be joined before it can be woken. A few loads; the isolate's thread, inside malloc too. */
bool is_to_join(Isolate* isolate) noexcept;

/** Makes the isolate one that is woken. On its thread, where JavaScript was interrupted; false: it runs none of Node's now.
 *  Allocates. */
bool join(Isolate* isolate) noexcept;

/** Wakes all of them: a write to a descriptor for each that waits. Any thread; waits for nobody. */
void wake_all() noexcept;

/** In the child of fork: the descriptors are the parent's, too, so none is woken any more. */
void abandon_all() noexcept;

}  // namespace memlimit::runtimes::node_loop
