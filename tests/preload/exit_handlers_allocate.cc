/* Static destructors, atexit and on_exit handlers and destructor functions allocate, resize and free, also blocks made
 * by each other, while the process goes down; the count stays exact all the way. */
#include <malloc.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "check.h"

namespace {

void use_heap() {
  const int64_t before = memlimit_is_loaded() ? stats_now().heap_alloc : 0;
  for (size_t size = 1; size < (16 << 20); size *= 4) {
    char* block = static_cast<char*>(malloc(size));
    CHECK(block != nullptr);
    block[size - 1] = 1;
    block = static_cast<char*>(realloc(block, size + size / 2 + 1));
    CHECK(block != nullptr);
    CHECK(block[size - 1] == 1);
    if (memlimit_is_loaded())
      CHECK_EQ(stats_now().heap_alloc - before, static_cast<int64_t>(malloc_usable_size(block)));
    free(block);
  }
}

char* passed_on = nullptr;

void pass_on() {
  use_heap();
  if (passed_on != nullptr) CHECK(strcmp(passed_on, "made at exit") == 0);
  free(passed_on);
  passed_on = strdup("made at exit");
  CHECK(passed_on != nullptr);
}

struct Static {
  std::vector<std::string> texts{100, std::string(1000, 'x')};
  ~Static() {
    pass_on();
    texts.emplace_back(5000, 'y');
  }
};
Static first;

void at_exit_handler() {
  pass_on();
  atexit(pass_on); /* registered by a handler: runs next */
}
void on_exit_handler(int status, void* argument) {
  CHECK_EQ(status, 0);
  CHECK(argument == &first);
  pass_on();
}
__attribute__((destructor(101))) void last_destructor() { pass_on(); }
__attribute__((destructor)) void plain_destructor() { pass_on(); }

}  // namespace

int main() {
  settle();
  static Static second;
  opaque(second.texts.data());
  CHECK_EQ(atexit(at_exit_handler), 0);
  CHECK_EQ(on_exit(on_exit_handler, &first), 0);
  thread_local Static third; /* of the main thread: destroyed before the static ones */
  opaque(third.texts.data());
  exit(0);
}
