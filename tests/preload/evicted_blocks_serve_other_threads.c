/* What an ASYNC hook frees goes to whoever allocates next, whichever thread allocated it: once, zeroed for calloc,
 * counted as ever; beside a thread that frees as much as it allocates. */
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"

enum {
  kBlockBytes = 1000,
  kOwnersBlocks = 40000, /* of the thread that sleeps then: 40 MB, under a limit of 64 MiB */
  kFilled = 120000,
  kMostBlocks = kOwnersBlocks + kFilled
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char** cache; /* the oldest first, from `oldest` on */
static int oldest, newest;
static char** owners; /* addresses, sorted */
static sem_t filled, may_end;
static _Atomic int churning = 1;

static int compare(const void* a, const void* b) {
  const char *const x = *(char*const*)a, *const y = *(char*const*)b;
  return (x > y) - (x < y);
}

static int is_owners(char* block) {
  return bsearch(&block, owners, kOwnersBlocks, sizeof *owners, compare) != NULL;
}

static void check_block(const char* block, int number) {
  int stamp;
  memcpy(&stamp, block, sizeof stamp);
  CHECK_EQ(stamp, number);
  memcpy(&stamp, block + kBlockBytes - sizeof stamp, sizeof stamp);
  CHECK_EQ(stamp, number);
}

static void add(char* block) {
  CHECK(block != NULL);
  pthread_mutex_lock(&lock);
  memcpy(block, &newest, sizeof newest);
  memcpy(block + kBlockBytes - sizeof newest, &newest, sizeof newest);
  cache[newest++] = block;
  pthread_mutex_unlock(&lock);
}

static void free_oldest(void) {
  check_block(cache[oldest], oldest);
  free(cache[oldest++]);
}

static int64_t evict(const struct memlimit_request* request, void* unused) {
  (void)unused;
  int64_t freed = 0;
  pthread_mutex_lock(&lock);
  for (; oldest < newest && freed < request->wanted_bytes; freed += kBlockBytes) free_oldest();
  pthread_mutex_unlock(&lock);
  return freed;
}

static void* own(void* unused) {
  (void)unused;
  for (int i = 0; i < kOwnersBlocks; ++i) {
    owners[i] = malloc(kBlockBytes);
    add(owners[i]);
  }
  qsort(owners, kOwnersBlocks, sizeof *owners, compare);
  sem_post(&filled);
  while (sem_wait(&may_end) != 0) {
  }
  return NULL;
}

static void* churn(void* unused) {
  (void)unused;
  while (churning) {
    char* const block = malloc(kBlockBytes);
    CHECK(block != NULL);
    free(block);
  }
  return NULL;
}

static char** map_addresses(int count) {
  void* const memory =
      mmap(NULL, count * sizeof(char*), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

int main(void) {
  need_library();
  cache = map_addresses(kMostBlocks);
  owners = map_addresses(kOwnersBlocks);
  CHECK_EQ(sem_init(&filled, 0, 0), 0);
  CHECK_EQ(sem_init(&may_end, 0, 0), 0);
  settle();
  const int64_t before = stats_now().heap_alloc;
  const struct memlimit_hook hook = {sizeof hook, "oldest", MEMLIMIT_ASYNC, evict, NULL};
  memlimit_hook_id id;
  pthread_t owner, churner;
  CHECK_EQ(pthread_create(&owner, NULL, own, NULL), 0);
  while (sem_wait(&filled) != 0) {
  }
  CHECK_EQ(pthread_create(&churner, NULL, churn, NULL), 0);
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);

  int taken = 0;
  for (int i = 0; i < kFilled; ++i) {
    char* const block = i % 2 == 0 ? malloc(kBlockBytes) : calloc(1, kBlockBytes);
    CHECK(block != NULL);
    if (i % 2 != 0) {
      for (int at = 0; at < kBlockBytes; ++at) CHECK_EQ(block[at], 0);
    }
    taken += is_owners(block);
    add(block);
  }
  churning = 0;
  CHECK_EQ(pthread_join(churner, NULL), 0);
  CHECK(oldest > kOwnersBlocks); /* all of the owner's were evicted */
  CHECK(taken > kOwnersBlocks / 2);

  CHECK_EQ(memlimit_hook_remove(id), 0);
  malloc_trim(0);
  while (oldest < newest) free_oldest();
  sem_post(&may_end);
  CHECK_EQ(pthread_join(owner, NULL), 0);
  malloc_trim(0);
  const int64_t left = stats_now().heap_alloc - before;
  CHECK(left < 16 << 10 && left > -(16 << 10));
  return 0;
}
