/* A copy of what stands for SQLite; see sqlite_copy.h. It only knows whose connection is whose. */
#include "sqlite_copy.h"

#include <stdlib.h>

#pragma GCC visibility push(default)

extern const struct sqlite_table SQLITE_TABLE;

int sqlite3_open_v2(const char* path, void** out, int flags, const char* vfs) {
  (void)path;
  (void)flags;
  (void)vfs;
  struct sqlite_connection* connection = malloc(sizeof *connection);
  if (connection != NULL) connection->copy = SQLITE_COPY;
  *out = connection;
  return connection != NULL ? 0 : 7;
}

int sqlite3_close(void* connection) {
  if (connection == NULL) return 0;
  if (((struct sqlite_connection*)connection)->copy != SQLITE_COPY) return 21;
  free(connection);
  return 0;
}

/* Bound like any other reference: to a preloaded library's functions of that name. */
const struct sqlite_table SQLITE_TABLE = {sqlite3_open_v2, sqlite3_close};
