-- Charges whose stored total or newest refund differs from their refunds. Member 4 is
-- the kind, 8 the amount, 15 the refunded id, which begins with the sequence of its charge.
WITH made AS (
    SELECT
        account,
        CAST(substr(stored ->> '15', 1, instr(stored ->> '15', '-') - 1) AS INTEGER)
            AS charge_sequence,
        sum(stored ->> '8') AS refunded,
        max(sequence) AS last_sequence
    FROM transactions
    WHERE stored ->> '4' = 2
    GROUP BY 1, 2
)
SELECT
    a.user_id,
    coalesce(r.charge_sequence, made.charge_sequence),
    'its refunds add up to ' || coalesce(made.refunded, 0) || ' and ' || coalesce(r.refunded, 0)
        || ' is stored'
FROM made
FULL JOIN refunds AS r
    ON r.account = made.account AND r.charge_sequence = made.charge_sequence
LEFT JOIN accounts AS a ON a.number = coalesce(r.account, made.account)
WHERE r.refunded IS NOT made.refunded OR r.last_sequence IS NOT made.last_sequence
