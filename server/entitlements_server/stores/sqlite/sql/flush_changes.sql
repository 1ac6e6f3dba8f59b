-- ?1: [account, sequence, position, ...]. A row that already exists stays.
INSERT OR IGNORE INTO changes (position, account, sequence)
SELECT value ->> 2, value ->> 0, value ->> 1 FROM json_each(?1)
