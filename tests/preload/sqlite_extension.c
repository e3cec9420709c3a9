/* Like a loadable extension: it calls SQLite by a table of functions that it is given, and is linked with no copy. */
#include <stddef.h>

#include "sqlite_copy.h"

#pragma GCC visibility push(default)
int extension_open(const struct sqlite_table* table, void** out);
int extension_close(const struct sqlite_table* table, void* connection);

/* Not as the last thing they do: the call is to come from here. */
int extension_open(const struct sqlite_table* table, void** out) {
  volatile int result = table->open_v2(":memory:", out, 0, NULL);
  return result;
}

int extension_close(const struct sqlite_table* table, void* connection) {
  volatile int result = table->close(connection);
  return result;
}
