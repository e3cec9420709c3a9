# Archives of a real tree, there and back.
tar -C /usr/include --sort=name --owner=0 --group=0 --numeric-owner -cf headers.tar linux asm-generic
sha256sum headers.tar
gzip -9 -n -k headers.tar
sha256sum headers.tar.gz
tar -tzf headers.tar.gz | wc -l
mkdir out
tar -C out -xzf headers.tar.gz
diff -r out/linux /usr/include/linux && echo same
gzip -dc headers.tar.gz | cmp - headers.tar && echo same
