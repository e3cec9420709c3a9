/* A program with a cache, driven by lines on standard input, for containers_test.py:
 *
 *   fill N    adds N MiB of entries     held   prints the MiB in the cache
 *   hold N    takes N MiB for good      quit   ends
 *
 * Each line is answered by one line, so that the test never has to guess when something is done.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memlimit.h"

#pragma weak memlimit_hook_add

enum { kEntryBytes = 16 << 10, kPerMiB = (1 << 20) / kEntryBytes };

struct entry {
  struct entry* next;
  char payload[kEntryBytes - sizeof(struct entry*)];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry* oldest;
static struct entry** newest = &oldest;
static int64_t entries;

static int64_t evict(const struct memlimit_request* request, void* arg) {
  int64_t freed = 0;
  (void)arg;
  pthread_mutex_lock(&lock);
  while (oldest != NULL && freed < request->wanted_bytes) {
    struct entry* const gone = oldest;
    oldest = gone->next;
    if (oldest == NULL) newest = &oldest;
    free(gone);
    entries -= 1;
    freed += kEntryBytes;
  }
  pthread_mutex_unlock(&lock);
  return freed;
}

static void fill(long mib) {
  for (long i = 0; i < mib * kPerMiB; ++i) {
    struct entry* const entry = malloc(sizeof *entry);
    if (entry == NULL) abort();
    memset(entry, 1, sizeof *entry);
    entry->next = NULL;
    pthread_mutex_lock(&lock);
    *newest = entry;
    newest = &entry->next;
    entries += 1;
    pthread_mutex_unlock(&lock);
  }
}

int main(void) {
  char line[64];
  const struct memlimit_hook hook = {sizeof hook, "cache", MEMLIMIT_ASYNC, evict, NULL};
  memlimit_hook_id id;
  if (memlimit_hook_add != NULL && memlimit_hook_add(&hook, &id) != 0) return 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("ready");
  while (fgets(line, sizeof line, stdin) != NULL && strncmp(line, "quit", 4) != 0) {
    long mib = 0;
    if (sscanf(line, "fill %ld", &mib) == 1) {
      fill(mib);
    } else if (sscanf(line, "hold %ld", &mib) == 1) {
      char* const held = malloc((size_t)mib << 20);
      if (held == NULL) abort();
      memset(held, 1, (size_t)mib << 20);
    }
    pthread_mutex_lock(&lock);
    const int64_t held = entries / kPerMiB;
    pthread_mutex_unlock(&lock);
    printf("%lld\n", (long long)held);
  }
  return 0;
}
