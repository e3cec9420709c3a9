# Arrays, associative arrays, regular expressions, process substitution and a co-process.
bash -eu -c '
declare -A seen
while read -r word; do
  [ -n "$word" ] || continue
  seen[$word]=$((${seen[$word]:-0} + 1))
done < <(cat /usr/include/std*.h | tr -cs "A-Za-z_" "\n")
for word in "${!seen[@]}"; do echo "${seen[$word]} $word"; done | LC_ALL=C sort -k1,1nr -k2 | head -n 50
[[ "memlimit 512MiB" =~ ([0-9]+)(MiB) ]] && echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
coproc upper { tr a-z A-Z; }
echo "through a co-process" >&"${upper[1]}"
eval "exec ${upper[1]}>&-"
cat <&"${upper[0]}"
printf "%s\n" {1..3000} | md5sum
'
