/* Freeing what must not be freed ends the process with one line that names the address, and SIGABRT, whichever way it is
 * wrong and wherever the pointer points; nothing is damaged before that. Each case runs in a child. */
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

static char in_data[64];

static void twice_in_a_row(void) {
  void* const block = opaque(malloc(100));
  free(block);
  free(opaque(block));
}

static void twice_with_another_between(void) {
  void* const block = opaque(malloc(100));
  void* const other = opaque(malloc(100));
  free(block);
  free(other);
  free(opaque(block));
  /* Found when the thread gives blocks back. */
  for (int i = 0; i < 5000; ++i) free(opaque(malloc(100)));
  malloc_trim(0);
}

/* Both are still in the thread's stack when the program ends. */
static void twice_deep_in_the_stack(void) {
  void* blocks[20];
  for (int i = 0; i < 20; ++i) blocks[i] = opaque(malloc(20));
  for (int i = 0; i < 20; ++i) free(blocks[i]);
  free(opaque(blocks[0]));
  exit(0);
}

static void large_twice(void) {
  void* const block = opaque(malloc(300000));
  free(block);
  free(opaque(block));
}

static void huge_twice(void) {
  void* const block = opaque(malloc(64 << 20));
  free(block);
  free(opaque(block));
}

static void inside_a_large_block(void) { free(opaque((char*)malloc(300000) + 4096)); }

static void inside_a_small_block(void) {
  free(opaque((char*)malloc(4000) + 16));
  malloc_trim(0);
}

static void on_the_stack(void) {
  char local[64];
  free(opaque(local));
}

static void in_the_programs_data(void) { free(opaque(in_data)); }

static void not_mapped(void) { free((void*)(uintptr_t)opaque((void*)0x123450)); }

static void mapped_by_the_program(void) {
  void* const pages = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED);
  free(opaque(pages));
}

static void reallocated_after_free(void) {
  void* const block = opaque(malloc(300000));
  free(block);
  void* const moved = realloc(opaque(block), 400000);
  (void)opaque(moved);
}

static void check_reported(const char* name, void (*wrong)(void)) {
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(dup2(ends[1], 2) == 2);
    wrong();
    _exit(0);
  }
  close(ends[1]);
  char said[512];
  size_t length = 0;
  ssize_t got;
  while ((got = read(ends[0], said + length, sizeof said - 1 - length)) > 0) length += (size_t)got;
  said[length] = '\0';
  close(ends[0]);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  const char* const newline = strchr(said, '\n');
  const int aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  const int one_line = strncmp(said, "memlimit: free(): ", 18) == 0 &&
                       strstr(said, " 0x") != NULL && newline == said + length - 1;
  if (!aborted || !one_line) finish_saying(1, "%s: status %d, said: %s", name, status, said);
}

int main(void) {
  need_library();
  CHECK_EQ(signal(SIGABRT, SIG_DFL) == SIG_ERR, 0);
#define REPORTED(wrong) check_reported(#wrong, wrong)
  REPORTED(twice_in_a_row);
  REPORTED(twice_with_another_between);
  REPORTED(twice_deep_in_the_stack);
  REPORTED(large_twice);
  REPORTED(huge_twice);
  REPORTED(inside_a_large_block);
  REPORTED(inside_a_small_block);
  REPORTED(on_the_stack);
  REPORTED(in_the_programs_data);
  REPORTED(not_mapped);
  REPORTED(mapped_by_the_program);
  REPORTED(reallocated_after_free);
  return 0;
}
