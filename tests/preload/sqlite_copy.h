/* What stands for SQLite where a claim is about how it is called: functions of its names in libraries of ours.
 * Two copies are built, each with its number. */
#pragma once

#include <pthread.h>
#include <stdint.h>

/* As SQLite has them. */
int sqlite3_open_v2(const char* path, void** out, int flags, const char* vfs);
int sqlite3_close(void* connection);
void* sqlite3_db_mutex(void* connection);
int sqlite3_mutex_try(void* mutex);
void sqlite3_mutex_leave(void* mutex);
int sqlite3_db_release_memory(void* connection);
int64_t sqlite3_soft_heap_limit64(int64_t bytes);

/* The functions of one copy as it hands them out to extensions. */
struct sqlite_table {
  int (*open_v2)(const char*, void**, int, const char*);
  int (*close)(void*);
};

/* What a connection points to. */
struct sqlite_connection {
  int copy;
  int64_t loaded_at; /* when the copy was */
  pthread_mutex_t mutex;
};

/* What a copy does, to be looked at from outside. */
struct sqlite_state {
  pthread_mutex_t
      mutex; /* all of a copy's functions need it, and releasing holds it for release_ms */
  int release_ms;
  _Atomic int releasing;
  _Atomic int releases;
  _Atomic int64_t soft_limit;
};
