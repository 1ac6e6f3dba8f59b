-- Successful transactions whose key is not bound to them, and charges that opened an access window whose
-- name is bound neither to them nor to a later one. Member 5 is the status, 13 the idempotency key, 23 the
-- end of the window, whose name is made of the feature, 6, and the event, 12.
SELECT a.user_id, t.sequence, 'its idempotency key is not bound to it'
FROM transactions AS t
LEFT JOIN idempotency_keys AS k
    ON k.account = t.account AND k.idempotency_key = t.stored ->> '13'
    AND k.sequence = t.sequence
LEFT JOIN accounts AS a ON a.number = t.account
WHERE t.stored ->> '13' != '' AND t.stored ->> '5' = 1 AND k.sequence IS NULL
UNION ALL
SELECT a.user_id, t.sequence, 'its access window is not bound to it'
FROM transactions AS t
LEFT JOIN idempotency_keys AS k
    ON k.account = t.account
    AND k.idempotency_key = (t.stored ->> '6') || ' ' || (t.stored ->> '12')
    AND k.sequence >= t.sequence
LEFT JOIN accounts AS a ON a.number = t.account
WHERE t.stored ->> '23' > 0 AND k.sequence IS NULL
