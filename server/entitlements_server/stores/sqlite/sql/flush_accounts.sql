-- ?1: [user id, transaction count, account]. An account that is newer in the table stays.
INSERT INTO accounts (user_id, transaction_count, stored)
SELECT value ->> 0, value ->> 1, value ->> 2
FROM json_each(?1)
WHERE true
ON CONFLICT (user_id) DO UPDATE SET
    transaction_count = excluded.transaction_count,
    stored = excluded.stored
WHERE excluded.transaction_count > accounts.transaction_count
