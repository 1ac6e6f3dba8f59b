-- ?1: [account, sequence, position, start, size]. ?2: one blob with all stored transactions, each
-- of `size` bytes from `start` on: splitting a text would be slow. A row that already exists stays.
INSERT OR IGNORE INTO transactions (account, sequence, stored)
SELECT value ->> 0, value ->> 1, CAST(substr(?2, value ->> 3, value ->> 4) AS TEXT)
FROM json_each(?1)
