# Tables, indexes, JSON, full text, sorting, transactions, integrity.
sqlite3 data.db <<'SQL'
.bail on
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, v REAL, b BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO t SELECT i, printf('key%07d', i * 7919 % 100003), i / 7.0, zeroblob(i % 100) FROM n;
CREATE INDEX t_k ON t(k);
SELECT count(*), round(sum(v), 3), max(length(b)) FROM t;
SELECT substr(k, 1, 6), count(*) FROM t GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 12;
SELECT a.id, b.id FROM t a JOIN t b ON a.k = b.k AND a.id < b.id ORDER BY 1 LIMIT 5;
BEGIN; UPDATE t SET v = v * 2 WHERE id % 3 = 0; DELETE FROM t WHERE id % 5 = 0; COMMIT;
SELECT json_group_array(id) FROM (SELECT id FROM t ORDER BY v DESC LIMIT 20);
CREATE VIRTUAL TABLE f USING fts5(body);
INSERT INTO f SELECT k || ' word' || (id % 100) FROM t;
SELECT count(*) FROM f WHERE f MATCH 'word42';
VACUUM;
PRAGMA integrity_check;
SQL
sqlite3 data.db .dump | md5sum
sqlite3 data.db 'SELECT * FROM missing' 2>/dev/null || echo "status $?"
