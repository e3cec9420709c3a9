# Many transfers at once with one curl, from a plain file server on loopback. $PORT is free.
mkdir -p site tmp out
awk 'BEGIN { for (i = 0; i < 300000; i++) print i, i * i % 1013 }' >site/large.txt
cat >nginx.conf <<CONF
daemon off; pid $PWD/nginx.pid; error_log $PWD/error.log; worker_processes 1; user $(id -un) $(id -gn);
events { worker_connections 256; }
http {
  access_log off; default_type text/plain;
  client_body_temp_path $PWD/tmp; proxy_temp_path $PWD/tmp; fastcgi_temp_path $PWD/tmp; uwsgi_temp_path $PWD/tmp; scgi_temp_path $PWD/tmp;
  server { listen 127.0.0.1:$PORT; root $PWD/site; }
}
CONF
# The server is without the library, so that this row is about curl alone.
LD_PRELOAD='' nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
url=http://127.0.0.1:$PORT
until curl -s -o /dev/null "$url/large.txt"; do kill -0 $server; done
curl -s -Z --parallel-max 8 "$url/large.txt?[1-24]" -o 'out/#1'
cat out/* | md5sum
curl -s -I "$url/large.txt" | grep -i content-length
curl -s "file://$PWD/site/large.txt" | md5sum
curl -s -F "file=@site/large.txt" -o /dev/null -w '%{http_code} %{size_upload}\n' "$url/large.txt" | cut -d' ' -f1
curl -s http://127.0.0.1:1/ && echo reached || echo "status $?"
kill -QUIT $server
wait $server
trap - EXIT
