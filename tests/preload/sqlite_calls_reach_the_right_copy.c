/* Two plugins, each with a copy of SQLite that nobody else sees, and an extension that has none: everybody's calls
 * arrive at the copy that they were meant for. So do those of a plugin that is linked with memlimit itself, whose
 * own names are the first that are found there. Arguments: the extension, then the plugins. */
#include <dlfcn.h>

#include "check.h"
#include "sqlite_copy.h"

static void* load(const char* path) {
  void* module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (module == NULL) finish_saying(kFailedStatus, "%s", dlerror());
  return module;
}

static void* name_in(void* module, const char* name) {
  void* found = dlsym(module, name);
  CHECK(found != NULL);
  return found;
}

static int copy_of(const void* connection) {
  CHECK(connection != NULL);
  return ((const struct sqlite_connection*)connection)->copy;
}

struct user {
  int (*open)(void**);
  int (*close)(void*);
};

static struct user user_of(void* module) {
  return (struct user){(int (*)(void**))name_in(module, "user_open"),
                       (int (*)(void*))name_in(module, "user_close")};
}

int main(int argc, char** argv) {
  CHECK(argc >= 4);
  void* extension = load(argv[1]);
  int (*extension_open)(const struct sqlite_table*, void**) =
      (int (*)(const struct sqlite_table*, void**))name_in(extension, "extension_open");
  int (*extension_close)(const struct sqlite_table*, void*) =
      (int (*)(const struct sqlite_table*, void*))name_in(extension, "extension_close");
  void* one = NULL;
  void* two = NULL;

  void* first = load(argv[2]);
  const struct sqlite_table* table = name_in(first, "sqlite_table_1");
  CHECK_EQ(extension_open(table, &one), 0);
  CHECK_EQ(copy_of(one), 1);
  CHECK_EQ(extension_close(table, one), 0);

  void* second = load(argv[3]);
  table = name_in(second, "sqlite_table_2");
  const struct user users[] = {user_of(first), user_of(second)};
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(users[0].open(&one), 0);
    CHECK_EQ(users[1].open(&two), 0);
    CHECK_EQ(copy_of(one), 1);
    CHECK_EQ(copy_of(two), 2);
    CHECK_EQ(users[0].close(one), 0);
    CHECK_EQ(i == 0 ? users[1].close(two) : extension_close(table, two), 0);
  }

  for (int i = 4; i < argc; ++i) {
    const struct user linked = user_of(load(argv[i]));
    CHECK_EQ(linked.open(&one), 0);
    CHECK_EQ(copy_of(one), 1);
    CHECK_EQ(linked.close(one), 0);
  }

  /* What was found for an image that is gone does not hold for its successor. */
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(dlclose(second), 0);
    second = load(argv[3]);
    const struct user user = user_of(second);
    CHECK_EQ(user.open(&two), 0);
    CHECK_EQ(copy_of(two), 2);
    CHECK_EQ(user.close(two), 0);
  }
  return 0;
}
