-- ?1: user id. ?2: sequence below which to read. ?3: how many. One row: a JSON array.
SELECT json_group_array(json(row)) FROM (
    SELECT json_array(
        a.user_id, t.sequence, t.kind, t.status, t.feature, t.cost, t.amount, t.balance_after,
        t.create_time_us, t.event_id, t.idempotency_key, t.reason, t.refunded_transaction_id,
        t.caller, t.catalogue_version) AS row
    FROM accounts AS a
    CROSS JOIN transactions AS t ON t.account = a.number
    WHERE a.user_id = ?1 AND t.sequence < ?2
    ORDER BY t.sequence DESC
    LIMIT ?3
)
