-- SPDX-License-Identifier: MIT
-- A database of ROWS rows, built, indexed, queried and changed; ROWS is filled in.

PRAGMA page_size = 4096;
PRAGMA cache_size = -262144;
PRAGMA temp_store = memory;
PRAGMA journal_mode = off;
PRAGMA synchronous = off;

CREATE TABLE owner (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);
CREATE TABLE item (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    name TEXT NOT NULL,
    weight INTEGER NOT NULL
);

BEGIN;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
INSERT INTO owner SELECT i, printf('owner %05d', i * 7919 % 10007) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS)
INSERT INTO item
SELECT i, i * 7919 % 10000, printf('%08x item', i * 2654435761 % 4294967296),
       i * i % 65521
FROM n;
COMMIT;
CREATE INDEX item_owner ON item (owner);

SELECT 'rows', count(*), sum(weight), min(name), max(name) FROM item;
SELECT 'heaviest', owner.name, count(*), sum(weight)
FROM item JOIN owner ON owner.id = item.owner
GROUP BY owner.id ORDER BY sum(weight) DESC, owner.id LIMIT 10;
SELECT 'names', length(group_concat(name, ',')) FROM item WHERE weight < 6000;
SELECT 'sorted', name, id FROM item ORDER BY substr(name, 5), id LIMIT 5 OFFSET ROWS / 8;
SELECT 'prefixes', count(DISTINCT substr(name, 1, 4)) FROM item;

BEGIN;
UPDATE item SET weight = weight + 1, name = name || ' (moved)' WHERE owner % 100 = 7;
DELETE FROM item WHERE owner % 50 = 3;
COMMIT;
SELECT 'after', count(*), sum(weight), sum(length(name)) FROM item;
PRAGMA integrity_check;
