# A cluster of its own: initdb, single-user and server, on a socket in this directory.
bin=/usr/lib/postgresql/15/bin
if [ "$(id -u)" -eq 0 ]; then
  chown postgres .
  chmod 700 .
  drop="setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=$PWD"
else
  drop=
fi
$drop $bin/initdb -D data -A trust -U me --no-sync >initdb.log 2>&1
$drop $bin/postgres -D data -k "$PWD" -c listen_addresses= -c fsync=off -c logging_collector=off >server.log 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true' EXIT
query() { $drop $bin/psql -h "$PWD" -U me -d postgres -At -c "$1"; }
until query 'select 1' >/dev/null 2>&1; do kill -0 $server; done
query "create table t as select i as id, md5(i::text) as k, repeat('x', i % 50) as s from generate_series(1, 100000) i"
query 'create index on t(k)'
query 'select count(*), sum(id), max(k) from t'
query "set work_mem = '64MB'; select md5(string_agg(k, ',' order by s, k)) from t"
query 'select count(*) from t a join t b on a.k = b.k where a.id % 7 = 0'
query 'delete from t where id % 3 = 0'
query 'vacuum full t'
query 'select count(*) from t'
query 'select * from missing' 2>/dev/null || echo "status $?"
kill -INT $server
wait $server
trap - EXIT
