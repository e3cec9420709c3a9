# Data through two processes and a Unix socket.
head -c 5000000 /usr/bin/gdb >input 2>/dev/null || head -c 5000000 /bin/sh >input
socat -u UNIX-LISTEN:pipe.sock,unlink-early CREATE:output &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
# The socket is there before it is listened on: connecting is tried again as long as the server lives.
until socat -u OPEN:input UNIX-CONNECT:pipe.sock 2>refused; do
  grep -q -e refused -e 'No such file' refused || exit 1
  kill -0 $server
done
wait $server
trap - EXIT
cmp input output && echo same
