/* A library that is loaded later takes the first blocks of mimalloc's pages without malloc, and what is remembered of the
 * others is the size of blocks that were in those places before. An ASYNC hook that frees them: nobody is given one as if
 * it had that size. argv[1]: mimalloc_module. */
#include <dlfcn.h>
#include <malloc.h>
#include <semaphore.h>
#include <stdlib.h>

#include "check.h"

enum { kOldPages = 300, kPageBytes = 64 << 10, kOldBytes = 1024, kBytes = 64 };
enum { kOld = kOldPages * (kPageBytes / kOldBytes), kBlocks = 200 * (kPageBytes / kBytes) };
enum { kTaken = 16384, kCharge = 64 << 20 };

static void* old[kOld];
static void* blocks[kBlocks];
static void* taken[kTaken];
static sem_t entered, may_free, freed, may_leave;
static int calls;

static void wait_for(sem_t* what) {
  while (sem_wait(what) != 0) {
  }
}

/* No pass ends, and nobody looks for new libraries, before the blocks have been taken. */
static int64_t free_blocks(const struct memlimit_request* request, void* unused) {
  (void)request;
  (void)unused;
  if (calls++ != 0) return 0;
  sem_post(&entered);
  wait_for(&may_free);
  for (int i = 1; i < kBlocks; i += 2) free(blocks[i]);
  sem_post(&freed);
  wait_for(&may_leave);
  return 0;
}

int main(int argc, char** argv) {
  CHECK_EQ(argc, 2);
  need_library();
  for (sem_t** semaphore = (sem_t*[]){&entered, &may_free, &freed, &may_leave, NULL};
       *semaphore != NULL; ++semaphore) {
    CHECK_EQ(sem_init(*semaphore, 0, 0), 0);
  }
  for (int i = 0; i < kOld; ++i) CHECK((old[i] = malloc(kOldBytes)) != NULL);
  for (int i = 0; i < kOld; ++i) free(old[i]);
  malloc_trim(0);
  const struct memlimit_hook hook = {sizeof hook, "frees", MEMLIMIT_ASYNC, free_blocks, NULL};
  memlimit_hook_id id;
  CHECK_EQ(memlimit_hook_add(&hook, &id), 0);
  memlimit_charge(kCharge);
  free(malloc(kOldPages * kPageBytes)); /* looks at once */
  wait_for(&entered);

  void* const module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(module != NULL);
  void* (*const allocate)(size_t) = dlsym(module, "module_allocate");
  CHECK(allocate != NULL);
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = i % 2 == 0 ? allocate(kBytes) : malloc(kBytes);
    CHECK(blocks[i] != NULL);
  }
  sem_post(&may_free);
  wait_for(&freed);
  for (int i = 0; i < kTaken; ++i) {
    taken[i] = malloc(kOldBytes);
    CHECK(taken[i] != NULL);
    CHECK(malloc_usable_size(taken[i]) >= kOldBytes);
  }
  sem_post(&may_leave);
  memlimit_charge(-kCharge);
  CHECK_EQ(memlimit_hook_remove(id), 0);
  return 0;
}
