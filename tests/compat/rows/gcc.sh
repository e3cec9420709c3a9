# One large generated C file, optimised: the same object to the byte.
awk 'BEGIN {
  print "#include <stdio.h>\n#include <string.h>"
  for (i = 0; i < 200; i++) {
    printf "static unsigned f%d(const unsigned *p, unsigned n) {\n  unsigned s = %d;\n", i, i
    printf "  for (unsigned i = 0; i < n; i++) { s = s * %d + p[i]; if (s %% %d == 0) s ^= p[n - i - 1]; }\n", 2 * i + 3, i + 2
    printf "  switch (s & 7) { case 0: return s + %d; case 1: return s ^ 0x%x; case 5: return ~s; default: return s; }\n}\n", i, i * 77
  }
  print "unsigned all(const unsigned *p, unsigned n) { unsigned s = 0;"
  for (i = 0; i < 200; i++) printf "  s += f%d(p, n);\n", i
  print "  return s; }\nint main(void) { unsigned v[64]; for (unsigned i = 0; i < 64; i++) v[i] = i * i; printf(\"%u\\n\", all(v, 64)); return 0; }"
}' >large.c
gcc -O2 -Wall -c large.c -o large.o
sha256sum large.o
gcc -O2 -flto large.c -o large
./large
gcc -E -dM -x c /dev/null | LC_ALL=C sort | md5sum
echo 'int main(void) { return x; }' >bad.c
gcc bad.c -o bad 2>/dev/null || echo "status $?"
