-- A page cache that is allowed to be larger than the group; three quarters of what it is asked for lie in a tenth
-- of the table.
PRAGMA cache_size = -1000000;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows(id INTEGER PRIMARY KEY, name TEXT, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700000)
INSERT INTO rows SELECT i, 'name ' || i, hex(zeroblob(250)) FROM n;
SELECT count(*), sum(length(body)) FROM rows;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)
SELECT sum(length(body)) FROM n JOIN rows ON id = 1 + CASE WHEN i % 4 THEN i * 31 % 70000 ELSE i % 700000 END;
SELECT 'done';
