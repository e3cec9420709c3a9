# Two workers on loopback: static files, ranges, compression, reload, orderly end. $PORT is free.
mkdir -p site tmp
cp /usr/include/std*.h site/
awk 'BEGIN { for (i = 0; i < 200000; i++) print "line", i }' >site/large.txt
cat >nginx.conf <<CONF
daemon off; pid $PWD/nginx.pid; error_log $PWD/error.log; worker_processes 2; user $(id -un) $(id -gn);
events { worker_connections 256; }
http {
  access_log off; default_type text/plain; gzip on; gzip_types text/plain; gzip_min_length 100;
  client_body_temp_path $PWD/tmp; proxy_temp_path $PWD/tmp; fastcgi_temp_path $PWD/tmp; uwsgi_temp_path $PWD/tmp; scgi_temp_path $PWD/tmp;
  server { listen 127.0.0.1:$PORT; root $PWD/site; location /again/ { proxy_pass http://127.0.0.1:$PORT/; } }
}
CONF
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
url=http://127.0.0.1:$PORT
until curl -s -o /dev/null "$url/stdio.h"; do kill -0 $server; done
for file in stdio.h stdlib.h large.txt again/large.txt; do
  curl -s "$url/$file" | sha256sum
  curl -s --compressed "$url/$file" | sha256sum
done
curl -s -r 1000-1999 "$url/large.txt" | sha256sum
curl -s -o /dev/null -w '%{http_code}\n' "$url/missing"
kill -HUP $server
i=0
while [ $i -lt 30 ]; do
  curl -s "$url/large.txt" "$url/stdio.h" "$url/again/stdlib.h" | md5sum
  i=$((i + 1))
done
kill -QUIT $server
wait $server
trap - EXIT
