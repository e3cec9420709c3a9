/* The command's file: where it is, and what its first bytes say of how the loader will treat it.
 *
 * Files of any content are read with bounds; what cannot be read is taken for an ordinary program.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/** What the kernel will run: the command, or the interpreter of a script. */
struct program {
  char path[PATH_MAX];   /* of the command, as exec is to have it */
  char image[PATH_MAX];  /* of the ELF file that is run in the end */
  char loader[PATH_MAX]; /* its PT_INTERP; empty: it has none, or nobody can tell */
  bool is_elf;
  bool is_static; /* no loader, so that nothing can be preloaded */
  bool is_go;
  bool is_privileged; /* set-user-ID or set-group-ID: the loader ignores what is to be preloaded */
  uint8_t elf_class;
  uint16_t machine;
};

/** Looks the command up as exec does, and into its file; ends the process when there is none, or none that can be run. */
void find_program(const char* name, struct program* program);

/** What the file is, without looking anything up; false when it is no ELF file. */
bool look_into(const char* path, struct program* program);
