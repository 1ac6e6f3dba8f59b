-- Successful transactions whose key is not bound to them. Member 5 is the status, 13 the idempotency
-- key.
SELECT a.user_id, t.sequence, 'its idempotency key is not bound to it'
FROM transactions AS t
LEFT JOIN idempotency_keys AS k
    ON k.account = t.account AND k.idempotency_key = t.stored ->> '13'
    AND k.sequence = t.sequence
LEFT JOIN accounts AS a ON a.number = t.account
WHERE t.stored ->> '13' != '' AND t.stored ->> '5' = 1 AND k.sequence IS NULL
