-- ?1: [account, idempotency key, sequence] of each name that a transaction binds. The newest one wins.
INSERT INTO idempotency_keys (account, idempotency_key, sequence)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1)
WHERE true
ON CONFLICT (account, idempotency_key) DO UPDATE SET
    sequence = excluded.sequence
WHERE excluded.sequence > idempotency_keys.sequence
