/* See say.h. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What cannot be written is not the command's concern. */
static void put(int fd, const char* text, size_t length) {
  while (length > 0) {
    const ssize_t written = write(fd, text, length);
    if (written <= 0) return;
    text += written;
    length -= (size_t)written;
  }
}

static void put_line(const char* format, va_list arguments) {
  static const char kName[] = "memlimit-run: ";
  char line[4096];
  memcpy(line, kName, sizeof kName - 1);
  const size_t room = sizeof line - (sizeof kName - 1) - 1;
  const int wanted = vsnprintf(line + sizeof kName - 1, room, format, arguments);
  size_t length = sizeof kName - 1;
  if (wanted > 0) length += (size_t)wanted < room ? (size_t)wanted : room - 1;
  line[length++] = '\n';
  put(STDERR_FILENO, line, length);
}

void print(const char* text) { put(STDOUT_FILENO, text, strlen(text)); }

void complain_text(const char* text) { put(STDERR_FILENO, text, strlen(text)); }

void complain(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  put_line(format, arguments);
  va_end(arguments);
}

void die(int status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  put_line(format, arguments);
  va_end(arguments);
  exit(status);
}
