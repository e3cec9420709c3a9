# sort uses threads and large buffers.
seq 1 400000 | awk '{ print ($1 * 7919) % 1000003, $1 }' >numbers
sort --parallel=4 -S 64M -n numbers | md5sum
sort --parallel=4 -k2 -r numbers | md5sum
cut -d' ' -f1 numbers | sort -u | wc -l
shuf --random-source=/bin/ls numbers | head -n 1000 | sort -n | md5sum
split -l 50000 numbers part.
cat part.* | cmp - numbers && echo same
