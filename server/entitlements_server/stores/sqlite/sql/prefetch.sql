-- The read set of a group, in one row of three JSON arrays. What the accounts, keys and refunds refer to
-- and is missing is null. What keys are bound to comes with what was refunded
-- of it, as charges do: the memtable keeps both.
-- ?1: user ids. ?2: [user id, idempotency key] pairs. ?3: [user id, sequence] pairs.
SELECT
    (
        SELECT '[' || coalesce(group_concat(
            '[' || json_quote(a.user_id) || ',' || a.transaction_count || ',' || a.stored || ']'
        ), '') || ']'
        FROM json_each(?1) AS named
        CROSS JOIN accounts AS a ON a.user_id = named.value
    ),
    (
        SELECT '[' || coalesce(group_concat(
            '[' || named.value || ',' || k.sequence || ',' || coalesce(t.stored, 'null') || ','
                || coalesce(r.refunded, 0) || ',' || coalesce(r.last_sequence, 0) || ','
                || coalesce(l.stored, 'null') || ']'
        ), '') || ']'
        FROM json_each(?2) AS named
        CROSS JOIN accounts AS a ON a.user_id = named.value ->> 0
        CROSS JOIN idempotency_keys AS k
            ON k.account = a.number AND k.idempotency_key = named.value ->> 1
        LEFT JOIN transactions AS t ON t.account = k.account AND t.sequence = k.sequence
        LEFT JOIN refunds AS r ON r.account = k.account AND r.charge_sequence = k.sequence
        LEFT JOIN transactions AS l ON l.account = r.account AND l.sequence = r.last_sequence
    ),
    (
        SELECT '[' || coalesce(group_concat(
            '[' || named.value || ',' || coalesce(t.stored, 'null') || ','
                || coalesce(r.refunded, 0) || ',' || coalesce(r.last_sequence, 0) || ','
                || coalesce(l.stored, 'null') || ']'
        ), '') || ']'
        FROM json_each(?3) AS named
        CROSS JOIN accounts AS a ON a.user_id = named.value ->> 0
        LEFT JOIN transactions AS t
            ON t.account = a.number AND t.sequence = named.value ->> 1
        LEFT JOIN refunds AS r ON r.account = a.number AND r.charge_sequence = named.value ->> 1
        LEFT JOIN transactions AS l ON l.account = r.account AND l.sequence = r.last_sequence
        WHERE named.value ->> 1 BETWEEN 1 AND a.transaction_count
    )
