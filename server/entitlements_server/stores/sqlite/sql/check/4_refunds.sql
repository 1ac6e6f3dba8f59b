-- Charges whose refunded total or newest refund differs from what their refunds amount to.
-- Kind 2 is a refund; the id that it names begins with the sequence of its charge.
WITH made AS (
    SELECT
        account,
        CAST(substr(refunded_transaction_id, 1, instr(refunded_transaction_id, '-') - 1) AS INTEGER)
            AS charge_sequence,
        sum(amount) AS refunded,
        max(sequence) AS last_sequence
    FROM transactions
    WHERE kind = 2
    GROUP BY 1, 2
)
SELECT
    a.user_id,
    coalesce(r.charge_sequence, made.charge_sequence),
    'its refunds amount to ' || coalesce(made.refunded, 0) || ' and ' || coalesce(r.refunded, 0)
        || ' is noted'
FROM made
FULL JOIN refunds AS r
    ON r.account = made.account AND r.charge_sequence = made.charge_sequence
LEFT JOIN accounts AS a ON a.number = coalesce(r.account, made.account)
WHERE r.refunded IS NOT made.refunded OR r.last_sequence IS NOT made.last_sequence
