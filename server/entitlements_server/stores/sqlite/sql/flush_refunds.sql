-- ?1: [account, sequence of the charge, refunded so far, sequence of the newest refund].
INSERT INTO refunds (account, charge_sequence, refunded, last_sequence)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1)
WHERE true
ON CONFLICT (account, charge_sequence) DO UPDATE SET
    refunded = excluded.refunded,
    last_sequence = excluded.last_sequence
WHERE excluded.last_sequence > refunds.last_sequence
