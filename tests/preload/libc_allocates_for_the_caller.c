/* Blocks that libc makes and the program frees, or the other way round, are of one heap: strdup, getline,
 * asprintf, realpath, scandir, open_memstream, getcwd, obstacks, regular expressions, glob, search trees, locales,
 * stdio buffers, backtraces, address lists, and dlopen's own tables. */
#include <dirent.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <glob.h>
#include <ifaddrs.h>
#include <limits.h>
#include <locale.h>
#include <malloc.h>
#include <netdb.h>
#include <obstack.h>
#include <pwd.h>
#include <regex.h>
#include <search.h>
#include <stdlib.h>
#include <wchar.h>

#include "check.h"

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

static void leave_name(void* name) { (void)name; }

static int compare_text(const void* left, const void* right) { return strcmp(left, right); }

static int compare_ints(const void* left, const void* right) {
  return (*(const int*)left > *(const int*)right) - (*(const int*)left < *(const int*)right);
}

/* libmimalloc 3 has a strdup and a strndup of its own, which would take blocks that nobody counts. */
static void comes_from_libc(const char* name) {
  Dl_info answers, libc;
  CHECK(dladdr(dlsym(RTLD_DEFAULT, name), &answers) != 0);
  CHECK(dladdr(dlsym(RTLD_DEFAULT, "getline"), &libc) != 0);
  CHECK(answers.dli_fbase == libc.dli_fbase);
}

static void strings_and_files(void) {
  comes_from_libc("strdup");
  comes_from_libc("strndup");
  char* copy = strdup("a block of libc's");
  CHECK(copy != NULL);
  copy = realloc(copy, 1000);
  CHECK(strcmp(copy, "a block of libc's") == 0);
  free(copy);
  free(strndup("abcdef", 3));
  free(wcsdup(L"wide"));

  char* text = NULL;
  CHECK(asprintf(&text, "%0500d", 7) == 500);
  CHECK(malloc_usable_size(text) >= 501);
  free(text);

  FILE* file = tmpfile();
  CHECK(file != NULL);
  for (int i = 0; i < 5000; ++i) CHECK(fprintf(file, "%d%s", i, i % 100 == 99 ? "\n" : " ") > 0);
  rewind(file);
  char* line = NULL;
  size_t capacity = 0;
  int lines = 0;
  while (getline(&line, &capacity, file) > 0) ++lines;
  CHECK_EQ(lines, 50);
  CHECK(malloc_usable_size(line) >= capacity);
  rewind(file);
  line = realloc(line, 3); /* the program's block, grown by libc */
  capacity = 3;
  CHECK(getline(&line, &capacity, file) > 200);
  free(line);
  line = NULL;
  capacity = 0;
  rewind(file);
  CHECK(getdelim(&line, &capacity, ' ', file) == 2);
  free(line);
  CHECK_EQ(fclose(file), 0);

  char* collected = NULL;
  size_t collected_size = 0;
  FILE* stream = open_memstream(&collected, &collected_size);
  for (int i = 0; i < 100000; ++i) fputc('a' + i % 26, stream);
  CHECK_EQ(fclose(stream), 0);
  CHECK_EQ(collected_size, 100000);
  free(collected);

  char* scanned = NULL;
  CHECK_EQ(sscanf("word rest", "%ms", &scanned), 1);
  CHECK(strcmp(scanned, "word") == 0);
  free(scanned);
}

static void paths(void) {
  char* path = realpath("/usr/../usr/.", NULL);
  CHECK(path != NULL && strcmp(path, "/usr") == 0);
  free(path);
  path = canonicalize_file_name("/");
  CHECK(path != NULL);
  free(path);
  path = getcwd(NULL, 0);
  CHECK(path != NULL);
  free(path);
  path = get_current_dir_name();
  CHECK(path != NULL);
  free(path);

  struct dirent** entries = NULL;
  const int count = scandir("/", &entries, NULL, alphasort);
  CHECK(count > 2);
  for (int i = 0; i < count; ++i) free(entries[i]);
  free(entries);

  DIR* directory = opendir("/");
  CHECK(directory != NULL);
  CHECK_EQ(closedir(directory), 0);

  glob_t matches;
  CHECK_EQ(glob("/*", 0, NULL, &matches), 0);
  CHECK(matches.gl_pathc > 2);
  globfree(&matches);
}

static void structures(void) {
  struct obstack stack;
  obstack_init(&stack);
  for (int i = 0; i < 10000; ++i) obstack_grow(&stack, "0123456789", 10);
  char* grown = obstack_finish(&stack);
  CHECK(memcmp(grown + 99990, "0123456789", 10) == 0);
  obstack_free(&stack, NULL);

  regex_t expression;
  CHECK_EQ(regcomp(&expression, "^(a|b)*[0-9]{3,5}(foo|bar)+$", REG_EXTENDED), 0);
  CHECK_EQ(regexec(&expression, "abab1234foobar", 0, NULL, 0), 0);
  regfree(&expression);

  void* root = NULL;
  char names[200][8];
  for (int i = 0; i < 200; ++i) {
    snprintf(names[i], sizeof names[i], "n%d", i);
    CHECK(tsearch(names[i], &root, compare_text) != NULL);
  }
  CHECK(tfind("n77", &root, compare_text) != NULL);
  tdestroy(root, leave_name);

  CHECK(hcreate(100) != 0);
  hdestroy();

  static int numbers[300000]; /* large enough for qsort to look for memory */
  for (int i = 0; i < 300000; ++i) numbers[i] = (int)((unsigned)i * 2654435761u);
  qsort(numbers, 300000, sizeof numbers[0], compare_ints);
  for (int i = 1; i < 300000; ++i) CHECK(numbers[i - 1] <= numbers[i]);

  CHECK_EQ(setenv("A_NEW_VARIABLE", "value", 1), 0);
  CHECK_EQ(unsetenv("A_NEW_VARIABLE"), 0);
}

static void systems(void) {
  locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
  if (locale != (locale_t)0) freelocale(locale);
  setlocale(LC_ALL, "");

  void* frames[20];
  const int depth = backtrace(frames, 20);
  char** symbols = backtrace_symbols(frames, depth);
  CHECK(symbols != NULL);
  free(symbols);

  struct ifaddrs* interfaces = NULL;
  if (getifaddrs(&interfaces) == 0) freeifaddrs(interfaces);
  struct addrinfo hints;
  memset(&hints, 0, sizeof hints);
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  struct addrinfo* addresses = NULL;
  CHECK_EQ(getaddrinfo("127.0.0.1", "80", &hints, &addresses), 0);
  freeaddrinfo(addresses);
  (void)getpwuid(getuid());

  void* library = dlopen("libm.so.6", RTLD_NOW);
  CHECK(library != NULL);
  CHECK_EQ(dlclose(library), 0);
  CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == NULL);
  CHECK(dlerror() != NULL);

  FILE* pipe_stream = popen("echo hello", "r");
  CHECK(pipe_stream != NULL);
  char word[16];
  CHECK(fgets(word, sizeof word, pipe_stream) != NULL);
  CHECK(strcmp(word, "hello\n") == 0);
  CHECK_EQ(pclose(pipe_stream), 0);
}

int main(void) {
  for (int turn = 0; turn < 3; ++turn) {
    strings_and_files();
    paths();
    structures();
    systems();
  }
  return 0;
}
