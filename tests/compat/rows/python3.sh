# The interpreter on real work: its own sources parsed, threads, processes, ctypes, sqlite3, compression.
cat >main.py <<'CODE'
import ast, concurrent.futures, ctypes, gc, hashlib, json, lzma, multiprocessing, os, pathlib, re, sqlite3, subprocess, sys, zlib

def work(n):
    return sum(len(str(i)) for i in range(n * 1000))

def main():
    names = sorted(pathlib.Path(os.__file__).parent.glob("*.py"))[:60]
    trees = [ast.parse(p.read_bytes()) for p in names]
    print(sum(1 for t in trees for _ in ast.walk(t)))
    text = b"".join(p.read_bytes() for p in names)
    print(hashlib.md5(zlib.compress(text, 9)).hexdigest(), len(lzma.compress(text[:500000])))
    words = {}
    for w in re.findall(rb"\w+", text):
        words[w] = words.get(w, 0) + 1
    print(json.dumps(sorted(((n, w.decode("latin1")) for w, n in words.items()), reverse=True)[:30]))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        print(sum(pool.map(work, range(20))))
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(work, range(20))))
    db = sqlite3.connect(":memory:")
    db.execute("create table t(a, b)")
    db.executemany("insert into t values(?, ?)", ((i, str(i) * 3) for i in range(20000)))
    print(db.execute("select sum(a), max(b) from t").fetchone())
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for i in range(1000):
        libc.free(libc.malloc(i * 100))
    pid = os.fork()
    if pid == 0:
        os._exit(len([str(i) for i in range(100000)]) % 251)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 100000 % 251)
    print(subprocess.run(["sh", "-c", "echo from a child; exit 3"], stdout=subprocess.PIPE, check=False))
    for _ in range(5):
        cycles = [[] for _ in range(50000)]
        for c in cycles:
            c.append(c)
    del cycles, c
    gc.collect()
    sys.exit(9)

if __name__ == "__main__":
    main()
CODE
/usr/bin/python3 -I main.py && status=0 || status=$?
echo "status $status"
