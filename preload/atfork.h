/* Our fork handlers, in front of everybody's. */
#pragma once

namespace memlimit::atfork {

/** Registers them, unless that is done. Any thread; not inside malloc. */
void register_ours() noexcept;

/** Whether somebody else has a handler that runs before fork. */
bool others_prepare() noexcept;

}  // namespace memlimit::atfork
