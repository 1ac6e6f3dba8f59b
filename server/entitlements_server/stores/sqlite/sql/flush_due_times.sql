-- ?1: [account, due time] of accounts whose due time changed and is not 0.
INSERT INTO due_times (account, due_us)
SELECT value ->> 0, value ->> 1 FROM json_each(?1)
WHERE true
ON CONFLICT (account) DO UPDATE SET due_us = excluded.due_us
