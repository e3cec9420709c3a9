# PostgreSQL under pgbench: 4 clients, 8,000 transactions, what the ledgers add up to, dump and restore.
bin=/usr/lib/postgresql/15/bin
if [ "$(id -u)" -eq 0 ]; then
  chown postgres .
  chmod 700 .
  drop="setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=$PWD"
else
  drop=
fi
$drop $bin/initdb -D data -A trust -U me --no-sync >initdb.log 2>&1
$drop $bin/postgres -D data -k "$PWD" -c listen_addresses= -c fsync=off >server.log 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true' EXIT
query() { $drop $bin/psql -h "$PWD" -U me -d "$1" -At -c "$2"; }
until query postgres 'select 1' >/dev/null 2>&1; do kill -0 $server; done
query postgres 'create database bench'
query postgres 'create database again'
$drop $bin/pgbench -h "$PWD" -U me -i -q -s 4 bench >init.log 2>&1
$drop $bin/pgbench -h "$PWD" -U me -n -c 4 -j 2 -t 2000 bench >bench.log 2>&1
grep -E 'transactions actually processed|failed' bench.log
query bench 'select count(*), (select sum(delta) from pgbench_history) = sum(abalance) from pgbench_accounts'
query bench 'select sum(bbalance) = (select sum(tbalance) from pgbench_tellers) from pgbench_branches'
$drop $bin/pgbench -h "$PWD" -U me -n -S -M prepared -c 4 -j 2 -t 5000 bench >select.log 2>&1
grep -E 'transactions actually processed|failed' select.log
$drop $bin/pg_dump -h "$PWD" -U me -j 2 -F d -f dump bench
$drop $bin/pg_restore -h "$PWD" -U me -j 2 -d again dump
query again 'select count(*), min(aid), max(aid), sum(length(filler)) from pgbench_accounts'
query again 'select count(*) from pgbench_history'
kill -INT $server
wait $server
trap - EXIT
