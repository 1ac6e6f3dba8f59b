-- ?1: [account, sequence, position, start, size]. ?2: all that is to be stored, as one blob in which
-- each transaction is `size` bytes from `start` on: taking a text apart would be slow. One that is here
-- already stays.
INSERT OR IGNORE INTO transactions (account, sequence, stored)
SELECT value ->> 0, value ->> 1, CAST(substr(?2, value ->> 3, value ->> 4) AS TEXT)
FROM json_each(?1)
