# PostgreSQL under pgbench: 4 clients, 8,000 transactions, what the ledgers add up to, dump and restore.
# shellcheck source=/dev/null
. "$(dirname "$0")/postgres_server.sh"
query postgres 'create database bench'
query postgres 'create database again'
tool pgbench -i -q -s 4 bench >init.log 2>&1
tool pgbench -n -c 4 -j 2 -t 2000 bench >bench.log 2>&1
grep -E 'transactions actually processed|failed' bench.log
query bench 'select count(*), (select sum(delta) from pgbench_history) = sum(abalance) from pgbench_accounts'
query bench 'select sum(bbalance) = (select sum(tbalance) from pgbench_tellers) from pgbench_branches'
tool pgbench -n -S -M prepared -c 4 -j 2 -t 5000 bench >select.log 2>&1
grep -E 'transactions actually processed|failed' select.log
tool pg_dump -j 2 -F d -f dump bench
tool pg_restore -j 2 -d again dump
query again 'select count(*), min(aid), max(aid), sum(length(filler)) from pgbench_accounts'
query again 'select count(*) from pgbench_history'
stop
