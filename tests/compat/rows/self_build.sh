# The library itself and its unit tests, built by meson, ninja -j2 and g++: the same objects to the byte.
source=$(cd "$(dirname "$0")/../../.." && pwd)
git -C "$source" ls-files -z | (cd "$source" && tar -cf - --null -T -) | (mkdir source && tar -xf - -C source)
meson setup build source -Dbench=disabled >setup.log 2>&1
ninja -C build -j2 preload/libmemlimit.so tests/unit >build.log 2>&1
find build -name '*.o' | LC_ALL=C sort | xargs sha256sum
sha256sum build/preload/libmemlimit.so build/tests/unit
