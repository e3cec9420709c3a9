/* What memlimit-run prints, and the statuses it ends with before the command begins. */
#pragma once

#include <stddef.h>

enum {
  kStatusUsage = 64,          /* EX_USAGE of sysexits.h: a wrong option */
  kStatusSetting = 78,        /* EX_CONFIG: a bad setting, or no usable library */
  kStatusNotExecutable = 126, /* as of a shell */
  kStatusNotFound = 127,
};

/** A text on standard output. */
void print(const char* text);

/** A line on standard error, after the program's name; cut at 4 KiB. */
__attribute__((format(printf, 1, 2))) void complain(const char* format, ...);

/** A text on standard error as it is. */
void complain_text(const char* text);

/** complain(), and the end. */
__attribute__((noreturn, format(printf, 2, 3))) void die(int status, const char* format, ...);
