-- A page cache that is allowed to be larger than the group.
PRAGMA cache_size = -1000000;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows(id INTEGER PRIMARY KEY, name TEXT, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700000)
INSERT INTO rows SELECT i, 'name ' || (i * 7919 % 1000003), hex(zeroblob(250)) FROM n;
CREATE INDEX by_name ON rows(name);
SELECT count(*), sum(length(body)) FROM rows;
SELECT count(*) FROM rows a JOIN rows b ON b.id = (a.id * 31 % 700000) WHERE length(b.body) > 1;
SELECT 'done';
