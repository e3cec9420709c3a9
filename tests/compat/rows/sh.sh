# Loops, substitutions, here-documents, pipes, subshells and background jobs of a plain shell.
i=0
total=0
while [ $i -lt 20000 ]; do
  total=$((total + i * i % 7))
  i=$((i + 1))
done
echo "total $total"

list=
for word in $(seq 1 2000); do list="$list:$word"; done
echo "list ${#list}"

for n in 1 2 3 4 5 6 7 8; do
  (echo "job $n"; exit $n) >"job.$n" &
  wait $! || echo "job $n ended with $?"
done
cat job.1 job.8

cat <<TEXT
$(for f in /usr/include/*.h; do basename "$f" .h; done | sort | head -n 20)
TEXT
echo "$(printf %s "$(printf %s "$(printf %s substitutions) nested") to a depth of") three"
trap 'echo bye' EXIT
(kill -TERM "$(sh -c 'echo $PPID')") || echo "subshell ended with $?"
