/* Does nothing: what is left is the loader, start and end of the process. With an argument it says
 * so on standard output and stays idle until it is killed, so that the resident memory of an idle
 * process can be read from outside.
 *
 * Usage: nothing [stay]
 */
#include <unistd.h>

int main(int argc, char**) {
  if (argc > 1 && write(STDOUT_FILENO, "idle\n", 5) != 5) return 1;
  while (argc > 1) pause();
}
