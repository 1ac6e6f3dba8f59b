-- Keys that lead to no transaction that binds them.
SELECT a.user_id, k.sequence, 'an idempotency key leads to it that it does not bind'
FROM idempotency_keys AS k
LEFT JOIN transactions AS t
    ON t.account = k.account AND t.sequence = k.sequence
    AND t.idempotency_key = k.idempotency_key AND t.status = 1
LEFT JOIN accounts AS a ON a.number = k.account
WHERE t.sequence IS NULL
