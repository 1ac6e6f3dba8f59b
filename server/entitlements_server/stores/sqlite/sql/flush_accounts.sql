-- ?1: rows of Account. An account that is newer here stays.
INSERT INTO accounts (user_id, balance, transaction_count, create_time_us, update_time_us)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
FROM json_each(?1)
WHERE true
ON CONFLICT (user_id) DO UPDATE SET
    balance = excluded.balance,
    transaction_count = excluded.transaction_count,
    create_time_us = excluded.create_time_us,
    update_time_us = excluded.update_time_us
WHERE excluded.transaction_count > accounts.transaction_count
