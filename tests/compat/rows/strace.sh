# A tracer under the library, tracing a program that is not: the program's own system calls are its own.
strace -E LD_PRELOAD= -f -o trace -e trace=execve,exit_group sh -c 'ls / >/dev/null; exit 4' && status=0 || status=$?
echo "status $status"
grep -c exit_group trace
