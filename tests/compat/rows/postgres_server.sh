# Sourced by rows: a PostgreSQL cluster of its own, and its server on a socket in this directory. Leaves
# `query DATABASE SQL`, `tool NAME ARGUMENTS` for the other clients, and `stop`, which ends the server in order.
# shellcheck shell=sh
bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)
if [ "$(id -u)" -eq 0 ]; then
  chown postgres .
  chmod 700 .
  drop="setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=$PWD"
else
  drop=
fi
$drop "$bin"/initdb -D data -A trust -U me --no-sync >initdb.log 2>&1
$drop "$bin"/postgres -D data -k "$PWD" -c listen_addresses= -c fsync=off -c logging_collector=off >server.log 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true' EXIT
tool() {
  name=$1
  shift
  $drop "$bin/$name" -h "$PWD" -U me "$@"
}
query() { tool psql -d "$1" -At -c "$2"; }
until query postgres 'select 1' >/dev/null 2>&1; do kill -0 $server; done
stop() {
  kill -INT $server
  wait $server
  trap - EXIT
}
