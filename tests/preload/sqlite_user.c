/* A plugin linked with a copy of SQLite. Its destructor waits for a thread that closes the connection that the
 * plugin opened last, if there is one. */
#include <pthread.h>
#include <stddef.h>

#include "sqlite_copy.h"

#pragma GCC visibility push(default)
int user_open(void** out);
int user_close(void* connection);
void user_leaves_one(void);

static pthread_t thread;
static void* left;

/* Not as the last thing they do: the calls are to come from here. */
int user_open(void** out) {
  volatile int result = sqlite3_open_v2(":memory:", out, 0, NULL);
  return result;
}

int user_close(void* connection) {
  volatile int result = sqlite3_close(connection);
  return result;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void* close_when_told(void* unused) {
  (void)unused;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  sqlite3_close(left);
  return NULL;
}

void user_leaves_one(void) {
  user_open(&left);
  pthread_mutex_lock(&mutex);
  pthread_create(&thread, NULL, close_when_told, NULL);
}

__attribute__((destructor)) static void leave(void) {
  if (left == NULL) return;
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
}
