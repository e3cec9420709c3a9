/* Random mmap, munmap, mremap, mprotect and madvise: `mapped` changes by exactly what /proc/self/maps says
 * about private anonymous memory. Everything is compared by difference, so what the process had before
 * (heap, stack, libraries) is of no matter. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memlimit.h"

enum { kSlots = 64, kTurns = 3000, kPage = 4096, kSlotPages = 512 };

/* Every slot has a place of its own in one GiB of address space. What memlimit maps to keep its books on a
 * GiB is there while anything in it is: the anchor, from before the comparison to its end. */
#define ARENA ((char*)0x100040000000)
#define ANCHOR (ARENA + (1 << 30) - kPage)

struct slot {
  char* place;
  size_t pages; /* 0: nothing there */
  int holed;    /* calls that meet a hole fail half-way, which the count does not follow */
};
static struct slot slots[kSlots];
static char text[1 << 20];

static uint64_t state = 88172645463325252u;
static size_t pick(size_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (size_t)(state % below);
}

/* Bytes in writable private anonymous mappings. What has been writable once counts for memlimit as long
 * as it is accessible; here write access is only ever taken away together with all access. */
static int64_t kernel_says(void) {
  int fd = open("/proc/self/maps", O_RDONLY);
  size_t length = 0;
  ssize_t got;
  while ((got = read(fd, text + length, sizeof text - 1 - length)) > 0) length += (size_t)got;
  close(fd);
  text[length] = 0;
  int64_t sum = 0;
  for (char* line = text; *line != 0;) {
    char* end = strchr(line, '\n');
    if (end != NULL) *end = 0;
    unsigned long from, to, inode;
    char access[5];
    if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &from, &to, access, &inode) == 4) {
      if (inode == 0 && access[1] == 'w' && access[3] == 'p') sum += (int64_t)(to - from);
    }
    if (end == NULL) break;
    line = end + 1;
  }
  return sum;
}

static int64_t memlimit_says(void) {
  struct memlimit_stats stats;
  if (memlimit_read_stats(&stats, sizeof stats) != 0) exit(77);
  return stats.mapped;
}

static struct slot* empty_slot(void) {
  for (int i = 0; i < kSlots; ++i) {
    if (slots[i].pages == 0) return &slots[i];
  }
  return NULL;
}

static void turn(void) {
  struct slot* slot = &slots[pick(kSlots)];
  const int accesses[] = {PROT_NONE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
  const int fixed = MAP_ANONYMOUS | MAP_FIXED;
  if (slot->pages == 0) {
    const int kind = pick(8) == 0 ? MAP_SHARED : MAP_PRIVATE;
    slot->pages = 1 + pick(kSlotPages);
    slot->holed = 0;
    mmap(slot->place, slot->pages * kPage, accesses[pick(3)], kind | fixed, -1, 0);
    return;
  }
  const size_t first = pick(slot->pages);
  const size_t count = 1 + pick(slot->pages - first);
  char* const part = slot->place + first * kPage;
  switch (pick(6)) {
    case 0:
      munmap(slot->place, slot->pages * kPage);
      slot->pages = 0;
      break;
    case 1: /* a hole, its length not in whole pages */
      munmap(part, count * kPage - pick(kPage));
      slot->holed = 1;
      break;
    case 2:
      if (slot->holed) break;
      mprotect(part, count * kPage, accesses[pick(3)]);
      break;
    case 3: {
      if (slot->holed) break;
      struct slot* other = pick(2) ? empty_slot() : slot;
      const size_t pages = 1 + pick(kSlotPages);
      const int move = other == slot ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED;
      if (other == NULL) break;
      void* moved = mremap(slot->place, slot->pages * kPage, pages * kPage, move, other->place);
      if (moved == MAP_FAILED) break;
      slot->pages = 0;
      other->pages = pages;
      other->holed = 0;
      break;
    }
    case 4: /* in the place of what was there */
      mmap(part, count * kPage, accesses[pick(3)], MAP_PRIVATE | fixed, -1, 0);
      break;
    case 5:
      madvise(part, count * kPage, MADV_DONTNEED);
      break;
  }
}

int main(void) {
  for (int i = 0; i < kSlots; ++i) slots[i].place = ARENA + (size_t)i * kSlotPages * kPage;
  mmap(ANCHOR, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  (void)kernel_says(); /* whatever the first calls allocate */
  const int64_t difference = kernel_says() - memlimit_says();
  for (int i = 0; i < kTurns; ++i) {
    turn();
    const int64_t kernel = kernel_says() - difference;
    const int64_t counted = memlimit_says();
    if (kernel != counted) {
      fprintf(stderr, "turn %d: kernel %lld, counted %lld\n", i, (long long)kernel,
              (long long)counted);
      return 1;
    }
  }
  return 0;
}
