/* What first_module.c offers. */
#pragma once

/** Allocates a large block while it holds the lock that the module's fork handlers take. Any thread. */
void allocate_under_lock(void);
