/* Asking the statistics socket from a tiny program. Nothing here allocates: what is asked about is the program's own heap.
 * Threads: one at a time.
 */
#pragma once

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "check.h"

static const char* socket_path; /* for the program to set */
static char socket_answer[256 << 10];

/** The answer to a request, a line, as text; valid until the next. */
static inline const char* ask_socket(const char* request) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  CHECK(strlen(socket_path) < sizeof address.sun_path);
  strcpy(address.sun_path, socket_path);
  CHECK_EQ(connect(fd, (struct sockaddr*)&address, sizeof address), 0);
  CHECK_EQ(write(fd, request, strlen(request)), strlen(request));
  size_t length = 0;
  for (ssize_t got;
       (got = read(fd, socket_answer + length, sizeof socket_answer - 1 - length)) != 0;) {
    CHECK(got > 0);
    length += (size_t)got;
  }
  socket_answer[length] = '\0';
  close(fd);
  return socket_answer;
}

/** A figure of the file `stat`. */
static inline long long ask_stat(const char* key) {
  char needle[64];
  snprintf(needle, sizeof needle, "\n%s ", key);
  const char* const at = strstr(ask_socket("stat\n"), needle);
  CHECK(at != NULL);
  return strtoll(at + strlen(needle), NULL, 10);
}
