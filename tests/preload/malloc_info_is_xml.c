/* malloc_info writes one well-formed XML element <malloc version="..."> to the stream, answers 0, and refuses
 * options other than 0 with EINVAL. */
#include <ctype.h>
#include <malloc.h>
#include <stdlib.h>

#include "check.h"

/* Balanced tags and quoted attributes are all that is asked for; returns the number of elements. */
static int check_well_formed(const char* text) {
  char open_tags[16][32];
  int depth = 0, elements = 0;
  for (const char* at = strchr(text, '<'); at != NULL; at = strchr(at, '<')) {
    const char* end = strchr(at, '>');
    CHECK(end != NULL);
    const int closing = at[1] == '/';
    const char* name = at + 1 + closing;
    size_t length = 0;
    while (isalnum((unsigned char)name[length]) || name[length] == '_') ++length;
    CHECK(length > 0 && length < sizeof open_tags[0]);
    int quotes = 0;
    for (const char* c = at; c < end; ++c) quotes += *c == '"';
    CHECK_EQ(quotes % 2, 0);
    if (closing) {
      CHECK(depth > 0);
      --depth;
      CHECK(strlen(open_tags[depth]) == length && strncmp(open_tags[depth], name, length) == 0);
    } else {
      ++elements;
      CHECK(depth > 0 || elements == 1);
      if (end[-1] != '/') {
        CHECK(depth < 16);
        memcpy(open_tags[depth], name, length);
        open_tags[depth][length] = '\0';
        ++depth;
      }
    }
    at = end;
  }
  CHECK_EQ(depth, 0);
  return elements;
}

int main(void) {
  char* text = NULL;
  size_t size = 0;
  FILE* stream = open_memstream(&text, &size);
  CHECK(stream != NULL);
  CHECK_EQ(malloc_info(0, stream), 0);
  CHECK_EQ(fclose(stream), 0);
  CHECK(size > 0 && strlen(text) == size);
  CHECK(strncmp(text, "<malloc version=\"", 17) == 0);
  CHECK(check_well_formed(text) > 1);
  if (memlimit_is_loaded()) CHECK(strstr(text, "<size from=\"") != NULL);
  free(text);

  stream = open_memstream(&text, &size);
  CHECK(stream != NULL);
  CHECK_EQ(malloc_info(1, stream), EINVAL);
  CHECK_EQ(fclose(stream), 0);
  CHECK_EQ(size, 0);
  free(text);
  return 0;
}
