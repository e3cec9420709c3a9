-- What programs ask of SQLite: inserts, indices, joins, aggregates, text, updates, deletes.
PRAGMA journal_mode = MEMORY;
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, town INTEGER, born INTEGER);
CREATE TABLE visit(id INTEGER PRIMARY KEY, person INTEGER, day INTEGER, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO person SELECT i, 'name-' || (i * 7919 % 100003), i * 31 % 997, 1900 + i % 120 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
INSERT INTO visit
  SELECT i, i * 7907 % 100000 + 1, i % 3650, printf('note %d about %x', i, i * 2654435761) FROM n;
CREATE INDEX person_town ON person(town);
CREATE INDEX visit_person ON visit(person, day);
SELECT town, count(*), max(name) FROM person GROUP BY town ORDER BY 2 DESC, 1 LIMIT 5;
SELECT p.town, count(*), sum(v.day) FROM person p JOIN visit v ON v.person = p.id
  GROUP BY p.town ORDER BY 3 DESC LIMIT 5;
SELECT count(*) FROM visit WHERE note LIKE '%ab%';
SELECT length(group_concat(name, ',')) FROM person WHERE born > 1980;
UPDATE visit SET note = note || ' changed' WHERE day % 10 = 3;
DELETE FROM visit WHERE person IN (SELECT id FROM person WHERE town < 100);
SELECT count(*), sum(length(note)) FROM visit;
SELECT name FROM person ORDER BY substr(name, 7), id LIMIT 3;
SELECT count(DISTINCT note) FROM visit;
