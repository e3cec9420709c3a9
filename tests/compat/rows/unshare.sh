# New user, mount and pid namespaces: the kernel refuses them to a process with a second thread.
unshare -Ur true || { echo "no user namespaces here" >&2; exit 77; }
echo "user namespace"
unshare -Ur id -u
unshare -Urm sh -c 'mount -t tmpfs none /mnt && ls /mnt | wc -l'
unshare -Urpf --mount-proc sh -c 'echo $$'
