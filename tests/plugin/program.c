/* A program that knows nothing of memlimit: a cache without a bound behind a mutex, and a function that drops
 * the oldest of it. Fills it with 256 MiB and prints how much is left. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kEntries = 65536, kEntryBytes = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char* entries[kEntries];
static int oldest, newest;

/* Frees at least so many bytes of the oldest entries, if there are. Returns how many it freed. */
long cache_shrink(long bytes);
long cache_shrink(long bytes) {
  long freed = 0;
  pthread_mutex_lock(&lock);
  while (freed < bytes && oldest < newest) {
    free(entries[oldest++]);
    freed += kEntryBytes;
  }
  pthread_mutex_unlock(&lock);
  return freed;
}

int main(void) {
  for (int i = 0; i < kEntries; ++i) {
    char* const entry = malloc(kEntryBytes);
    if (entry == NULL) return 1;
    memset(entry, 'x', kEntryBytes);
    pthread_mutex_lock(&lock);
    entries[newest++] = entry;
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_lock(&lock);
  printf("%d MiB are cached\n", (int)((long)(newest - oldest) * kEntryBytes >> 20));
  pthread_mutex_unlock(&lock);
  return 0;
}
