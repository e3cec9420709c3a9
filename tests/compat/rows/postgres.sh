# A cluster of its own: initdb, single-user and server, on a socket in this directory.
# shellcheck source=/dev/null
. "$(dirname "$0")/postgres_server.sh"
query postgres "create table t as select i as id, md5(i::text) as k, repeat('x', i % 50) as s from generate_series(1, 100000) i"
query postgres 'create index on t(k)'
query postgres 'select count(*), sum(id), max(k) from t'
query postgres "set work_mem = '64MB'; select md5(string_agg(k, ',' order by s, k)) from t"
query postgres 'select count(*) from t a join t b on a.k = b.k where a.id % 7 = 0'
query postgres 'delete from t where id % 3 = 0'
query postgres 'vacuum full t'
query postgres 'select count(*) from t'
query postgres 'select * from missing' 2>/dev/null || echo "status $?"
stop
