# Text tools over real files.
cat /usr/include/*.h | awk '{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (w in n) print n[w], w }' | LC_ALL=C sort | md5sum
sed -n 's/.*\b\([a-z_]*\)(.*/\1/p' /usr/include/stdlib.h /usr/include/string.h
grep -rhoE '#define [A-Z_]+' /usr/include/linux | sort | uniq -c | sort -k1,1nr -k2 | head -n 20
find /usr/include -name '*.h' -size +20k -print | sort
tr '[:lower:]' '[:upper:]' </usr/include/stdio.h >upper
diff upper /usr/include/stdio.h | md5sum
