-- Keys bound to a transaction that does not bind them. Member 5 is the status, 13 the idempotency key. The
-- name of an access window is made of the feature, 6, and the event, 12; member 23 is its end.
SELECT a.user_id, k.sequence, 'an idempotency key is bound to it that it does not bind'
FROM idempotency_keys AS k
LEFT JOIN transactions AS t
    ON t.account = k.account AND t.sequence = k.sequence
    AND t.stored ->> '5' = 1
    AND (
        t.stored ->> '13' = k.idempotency_key
        OR (t.stored ->> '6') || ' ' || (t.stored ->> '12') = k.idempotency_key
        AND t.stored ->> '23' > 0
    )
LEFT JOIN accounts AS a ON a.number = k.account
WHERE t.sequence IS NULL
