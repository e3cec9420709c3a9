/* The settings, checked by the library before the command begins. */
#pragma once

#include <stdint.h>

/**
 * Has a loader run the library as a program, which looks at the environment's settings and says what is wrong. One place
 * knows their grammar, and this program is not it; and a loader that cannot load the library would run the command without
 * a limit. Ends the process then.
 *
 * @loader: what the command's own image names; must be able to load @library
 * Return: the limit in bytes, 0 for none
 */
int64_t check_settings(const char* loader, const char* library);
