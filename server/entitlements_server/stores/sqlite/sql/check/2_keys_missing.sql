-- Successful transactions with a key that the index of keys does not lead to.
SELECT a.user_id, t.sequence, 'its idempotency key does not lead to it'
FROM transactions AS t
LEFT JOIN idempotency_keys AS k
    ON k.account = t.account AND k.idempotency_key = t.idempotency_key AND k.sequence = t.sequence
LEFT JOIN accounts AS a ON a.number = t.account
WHERE t.idempotency_key != '' AND t.status = 1 AND k.sequence IS NULL
