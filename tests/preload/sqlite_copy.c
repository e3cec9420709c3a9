/* A copy of what stands for SQLite; see sqlite_copy.h. It knows whose connection is whose, and takes its time. */
#include "sqlite_copy.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#pragma GCC visibility push(default)

extern const struct sqlite_table SQLITE_TABLE;
extern struct sqlite_state SQLITE_STATE;

struct sqlite_state SQLITE_STATE = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Tells this copy from one that was loaded to the same place before. */
static int64_t loaded_at;

__attribute__((constructor)) static void note_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  loaded_at = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void check_own(const struct sqlite_connection* connection) {
  if (connection->loaded_at != loaded_at) abort();
}

static void enter(void) { pthread_mutex_lock(&SQLITE_STATE.mutex); }
static void leave(void) { pthread_mutex_unlock(&SQLITE_STATE.mutex); }

int sqlite3_open_v2(const char* path, void** out, int flags, const char* vfs) {
  (void)path;
  (void)flags;
  (void)vfs;
  enter();
  struct sqlite_connection* connection = malloc(sizeof *connection);
  if (connection != NULL) {
    connection->copy = SQLITE_COPY;
    connection->loaded_at = loaded_at;
    pthread_mutex_init(&connection->mutex, NULL);
  }
  leave();
  *out = connection;
  return connection != NULL ? 0 : 7;
}

int sqlite3_close(void* connection) {
  if (connection == NULL) return 0;
  if (((struct sqlite_connection*)connection)->copy != SQLITE_COPY) return 21;
  enter();
  free(connection);
  leave();
  return 0;
}

void* sqlite3_db_mutex(void* connection) {
  check_own(connection);
  return &((struct sqlite_connection*)connection)->mutex;
}

int sqlite3_mutex_try(void* mutex) { return pthread_mutex_trylock(mutex) == 0 ? 0 : 5; }

void sqlite3_mutex_leave(void* mutex) { pthread_mutex_unlock(mutex); }

int sqlite3_db_release_memory(void* connection) {
  check_own(connection);
  enter();
  SQLITE_STATE.releasing = 1;
  if (SQLITE_STATE.release_ms > 0) usleep((unsigned)SQLITE_STATE.release_ms * 1000);
  SQLITE_STATE.releasing = 0;
  ++SQLITE_STATE.releases;
  leave();
  return 0;
}

int64_t sqlite3_soft_heap_limit64(int64_t bytes) {
  enter();
  const int64_t before = SQLITE_STATE.soft_limit;
  if (bytes >= 0) SQLITE_STATE.soft_limit = bytes;
  leave();
  return before;
}

/* Bound like any other reference: to a preloaded library's functions of that name. */
const struct sqlite_table SQLITE_TABLE = {sqlite3_open_v2, sqlite3_close};
