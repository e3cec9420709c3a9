/* Lets a library that was built with a newer glibc load with an older one.
 *
 * The C++ runtime that is linked in reads GLIBCXX_TUNABLES by strtoul(). Where it was compiled with glibc 2.38 or later
 * that is a call of __isoc23_strtoul(), which takes 0b11, too, and which no older glibc has: it would be the only thing
 * newer than 2.35 that the library asks for. So it is here, and is the function that every glibc has.
 * Threads: any.
 */

/* By the name of the symbol: newer headers turn strtoul() into the other one. */
extern "C" unsigned long strtoul_of_any_glibc(const char* text, char** end, int base) noexcept
    __asm__("strtoul");
extern "C" [[gnu::visibility("hidden")]] unsigned long strtoul_of_glibc_2_38(const char* text,
                                                                             char** end,
                                                                             int base) noexcept
    __asm__("__isoc23_strtoul");

unsigned long strtoul_of_glibc_2_38(const char* text, char** end, int base) noexcept {
  return strtoul_of_any_glibc(text, end, base);
}
