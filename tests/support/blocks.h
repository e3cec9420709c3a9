/* A chain of blocks that a tiny program holds, to bring usage to a level: no memory of its own but the blocks.
 * Threads: a chain belongs to one thread at a time.
 */
#pragma once

#include <malloc.h>
#include <stdlib.h>

#include "check.h"

/** Blocks linked through their first word. Starts as {0}. */
struct chain {
  void* head;
  int64_t usable_bytes; /* sum of malloc_usable_size over the chain */
};

/** Adds one block of at least sizeof(void*) bytes, written to in every page. */
static inline void chain_grow(struct chain* chain, size_t bytes) {
  char* block = (char*)malloc(bytes);
  CHECK(block != NULL);
  for (size_t i = 0; i < bytes; i += 4096) block[i] = 1;
  *(void**)block = chain->head;
  chain->head = block;
  chain->usable_bytes += (int64_t)malloc_usable_size(block);
}

/** Adds blocks of `block_bytes` until `total_bytes` more are held. */
static inline void chain_grow_by(struct chain* chain, int64_t total_bytes, size_t block_bytes) {
  const int64_t goal = chain->usable_bytes + total_bytes;
  while (chain->usable_bytes < goal) chain_grow(chain, block_bytes);
}

/** Frees the newest block; returns its usable size, 0 when there is none. */
static inline int64_t chain_shrink(struct chain* chain) {
  void* block = chain->head;
  if (block == NULL) return 0;
  const int64_t bytes = (int64_t)malloc_usable_size(block);
  chain->head = *(void**)block;
  chain->usable_bytes -= bytes;
  free(block);
  return bytes;
}

/** Frees all blocks; returns the sum of their usable sizes. */
static inline int64_t chain_drop(struct chain* chain) {
  int64_t sum = 0;
  while (chain->head != NULL) sum += chain_shrink(chain);
  return sum;
}

enum { kKiB = 1 << 10, kMiB = 1 << 20 };
