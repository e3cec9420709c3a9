# Data through two processes and a Unix socket.
head -c 5000000 /usr/bin/gdb >input 2>/dev/null || head -c 5000000 /bin/sh >input
socat -u UNIX-LISTEN:pipe.sock,unlink-early CREATE:output &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
until [ -S pipe.sock ]; do kill -0 $server; done
socat -u OPEN:input UNIX-CONNECT:pipe.sock
wait $server
trap - EXIT
cmp input output && echo same
