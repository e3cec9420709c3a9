/* The command line of memlimit-run: options that set a variable each, and where the command begins.
 *
 * Refuses to know what a value means: the library does. */
#pragma once

/** What is left to do when the options are read. */
struct options {
  const char* library; /* --library; null: look for it */
  char** command;      /* the command and its arguments */
};

/** Reads argv, puts the settings into the environment; ends the process on --help, --version and what is wrong. */
struct options read_options(char** argv);
