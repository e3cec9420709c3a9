/* Does nothing: what is left is the loader, start and end of the process. With an argument it stays
 * idle until it is killed, so that the resident memory of an idle process can be read from outside.
 *
 * Usage: nothing [stay]
 */
#include <unistd.h>

int main(int argc, char**) {
  while (argc > 1) pause();
}
