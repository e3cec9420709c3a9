/* What memlimit-run prints, and the statuses it ends with before the command begins. What cannot be written is not the
 * command's concern. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
  kStatusUsage = 64,          /* EX_USAGE of sysexits.h: a wrong option */
  kStatusSetting = 78,        /* EX_CONFIG: a bad setting, or no usable library */
  kStatusNotExecutable = 126, /* as of a shell */
  kStatusNotFound = 127,
};

/** A line on standard error, after the program's name, in one write; the format is a literal, and has an argument. */
#define complain(format, ...) dprintf(STDERR_FILENO, "memlimit-run: " format "\n", __VA_ARGS__)

/** complain(), and the end. */
#define die(status, ...) (complain(__VA_ARGS__), exit(status))
