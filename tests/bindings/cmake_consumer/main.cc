/* Runs with the library and without it. */
#include <cstdio>

#include <memlimit.hpp>

int main() { std::printf("%d %lld\n", memlimit::loaded() ? 1 : 0, (long long)memlimit::limit()); }
