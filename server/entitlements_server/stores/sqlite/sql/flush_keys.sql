-- ?1: [user id, idempotency key, sequence] of each transaction that binds its key.
INSERT OR IGNORE INTO idempotency_keys
SELECT a.number, k.value ->> 1, k.value ->> 2
FROM json_each(?1) AS k
CROSS JOIN accounts AS a ON a.user_id = k.value ->> 0
