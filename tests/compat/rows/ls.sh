# A long recursive listing of directories that every Debian has.
ls -lR --time-style=+%s /usr/include "/usr/lib/$(basename "$(readlink -f /usr/bin/python3)")" /etc/apt
ls -la --sort=size /usr/bin
ls /nonexistent 2>/dev/null || echo "status $?"
