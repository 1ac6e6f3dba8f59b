-- What a group of commands needs, in one row of three JSON arrays.
-- ?1: user ids. ?2: [user id, idempotency key] pairs. ?3: [user id, sequence] pairs.
SELECT
    (
        SELECT json_group_array(json_array(
            a.user_id, a.balance, a.transaction_count, a.create_time_us, a.update_time_us))
        FROM json_each(?1) AS named
        CROSS JOIN accounts AS a ON a.user_id = named.value
    ),
    (
        SELECT json_group_array(json_array(
            a.user_id, t.sequence, t.kind, t.status, t.feature, t.cost, t.amount, t.balance_after,
            t.create_time_us, t.event_id, t.idempotency_key, t.reason, t.refunded_transaction_id,
            t.caller, t.catalogue_version))
        FROM json_each(?2) AS named
        CROSS JOIN accounts AS a ON a.user_id = named.value ->> 0
        CROSS JOIN idempotency_keys AS k
            ON k.account = a.number AND k.idempotency_key = named.value ->> 1
        CROSS JOIN transactions AS t ON t.account = k.account AND t.sequence = k.sequence
    ),
    (
        SELECT json_group_array(json_array(
            json_array(
                a.user_id, t.sequence, t.kind, t.status, t.feature, t.cost, t.amount,
                t.balance_after, t.create_time_us, t.event_id, t.idempotency_key, t.reason,
                t.refunded_transaction_id, t.caller, t.catalogue_version),
            r.refunded,
            CASE WHEN r.refunded IS NOT NULL THEN json_array(
                a.user_id, l.sequence, l.kind, l.status, l.feature, l.cost, l.amount,
                l.balance_after, l.create_time_us, l.event_id, l.idempotency_key, l.reason,
                l.refunded_transaction_id, l.caller, l.catalogue_version)
            END))
        FROM json_each(?3) AS named
        CROSS JOIN accounts AS a ON a.user_id = named.value ->> 0
        CROSS JOIN transactions AS t
            ON t.account = a.number AND t.sequence = named.value ->> 1
        LEFT JOIN refunds AS r ON r.account = t.account AND r.charge_sequence = t.sequence
        LEFT JOIN transactions AS l ON l.account = r.account AND l.sequence = r.last_sequence
    )
