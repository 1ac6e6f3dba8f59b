-- ?1: [user id, sequence of the charge, refunded so far, sequence of the newest refund].
INSERT INTO refunds
SELECT a.number, r.value ->> 1, r.value ->> 2, r.value ->> 3
FROM json_each(?1) AS r
CROSS JOIN accounts AS a ON a.user_id = r.value ->> 0
WHERE true
ON CONFLICT (account, charge_sequence) DO UPDATE SET
    refunded = excluded.refunded,
    last_sequence = excluded.last_sequence
WHERE excluded.last_sequence > refunds.last_sequence
