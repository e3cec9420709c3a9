/* What stands for SQLite where a claim is about the way there: functions of its names in libraries of ours.
 * Two copies are built, each with its number. */
#pragma once

#include <stdint.h>

/* As SQLite has them. */
int sqlite3_open_v2(const char* path, void** out, int flags, const char* vfs);
int sqlite3_close(void* connection);

/* The functions of one copy as it hands them out to extensions. */
struct sqlite_table {
  int (*open_v2)(const char*, void**, int, const char*);
  int (*close)(void*);
};

/* What a connection points to. */
struct sqlite_connection {
  int copy;
};
