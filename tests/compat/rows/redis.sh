# A server of its own on a socket in this directory: loaded by redis-benchmark, checked by its own digest.
redis-server --port 0 --unixsocket "$PWD/redis.sock" --save '' --appendonly no --dir "$PWD" \
  --enable-debug-command yes --daemonize no --logfile redis.log &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
cli() { redis-cli -s redis.sock "$@"; }
# redis-cli itself waits: -t bounds the connection attempt, and the loop ends with the server.
until cli ping >/dev/null 2>&1; do kill -0 $server; done
cli ping
redis-benchmark -s redis.sock -q -n 20000 -c 20 -P 16 -t set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,mset >bench.out
wc -l <bench.out | tr -d ' ' >/dev/null
cli flushall
awk 'BEGIN { for (i = 0; i < 40000; i++) printf "SET key:%d %0100d\r\n", i, i * 7919 }' | cli --pipe | grep -o 'errors: [0-9]*'
awk 'BEGIN { for (i = 0; i < 20000; i++) printf "HSET hash:%d field%d %d\r\n", i % 100, i, i }' | cli --pipe | grep -o 'errors: [0-9]*'
awk 'BEGIN { for (i = 0; i < 40000; i += 3) printf "DEL key:%d\r\n", i }' | cli --pipe | grep -o 'errors: [0-9]*'
cli debug digest
cli dbsize
cli hget hash:7 field107
cli eval 'local s = 0; for i = 1, 100 do s = s + #redis.call("KEYS", "key:" .. i) end; return s' 0
cli debug reload
cli debug digest
cli setrange large 5000000 end
cli strlen large
cli shutdown nosave
wait $server
trap - EXIT
