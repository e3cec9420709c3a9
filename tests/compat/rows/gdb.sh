# A batch session on a small program: breakpoint, backtrace, memory, call into the program.
cat >small.c <<'CODE'
#include <stdlib.h>
#include <string.h>
static int depth(int n, char *p) { return n == 0 ? (int)strlen(p) : depth(n - 1, p); }
int main(void) {
  char *p = malloc(100);
  strcpy(p, "from the heap");
  int r = depth(5, p);
  free(p);
  return r == 13 ? 7 : 1;
}
CODE
gcc -g -O0 small.c -o small
gdb --batch -nx -iex 'set debuginfod enabled off' -ex 'set pagination off' -ex 'set width 0' -ex 'set print address off' \
  -ex 'break depth if n == 0' -ex 'run' -ex 'backtrace' -ex 'print p' -ex 'print (int)strlen(p)' \
  -ex 'print (int)abs(-5)' -ex 'continue' ./small 2>/dev/null | grep -v -e '^Using host' -e 'libthread_db' -e '^warning:' |
  sed 's/process [0-9]*/process N/'
