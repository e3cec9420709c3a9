/* Where libmemlimit.so is. */
#pragma once

#include <limits.h>

/** The absolute path of the library: the one named, or else beside this program, in the build tree or as installed, that is
 *  for programs of this loader (musl's has one of its own). Ends the process where there is none that the loader could take.
 *  image: the program that it is for. */
void find_library(const char* named, const char* loader, const char* image, char path[PATH_MAX]);

/** Puts it first into LD_PRELOAD, so that its malloc is the one found; once, when launchers are nested. */
void preload(const char* library);
