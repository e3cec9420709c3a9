# xz takes tens of megabytes at once, and threads.
tar -C /usr/include --sort=name --owner=0 --group=0 --numeric-owner -cf headers.tar linux
xz -k -6 -T1 headers.tar
sha256sum headers.tar.xz
xz -dc headers.tar.xz | cmp - headers.tar && echo same
xz -c -3 -T4 --block-size=1MiB headers.tar | xz -dc -T4 | cmp - headers.tar && echo same
xz -t headers.tar.xz && echo good
