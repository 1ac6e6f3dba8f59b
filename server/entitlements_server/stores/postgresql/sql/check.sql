-- Compares what is stored beside the histories with them, for the users after $1 up to $2.
-- Returns the user, the sequence or 0, and what is wrong.
--
-- A few users at a time, as a long snapshot would keep every old version of every account.
WITH account AS MATERIALIZED (
    SELECT user_id, state <> '' AS real,
        CASE WHEN state <> '' THEN
            convert_from(substr(state, position(' '::bytea IN state) + 1), 'UTF8')::jsonb
        END AS value
    FROM entitlements.accounts
    WHERE user_id > $1::text AND user_id <= $2::text
),
history AS MATERIALIZED (
    SELECT user_id, sequence, row.position AS place,
        convert_from(substr(body, position(' '::bytea IN body) + 1), 'UTF8')::jsonb AS value
    FROM entitlements.transactions AS row
    WHERE user_id > $1::text AND user_id <= $2::text
),
binding AS (
    SELECT user_id, key, max(sequence) AS sequence
    FROM (
        SELECT user_id, value ->> '13' AS key, sequence FROM history
        WHERE value ? '13' AND value ->> '5' = '1'
        UNION ALL
        -- The access window that a charge opened: its name is made of the feature and the event.
        SELECT user_id, (value ->> '6') || ' ' || (value ->> '12'), sequence FROM history
        WHERE value ? '23'
    ) AS named
    GROUP BY user_id, key
),
bound AS (
    SELECT user_id, key, sequence FROM entitlements.keys
    WHERE user_id > $1::text AND user_id <= $2::text
),
returned AS (
    SELECT user_id, split_part(value ->> '15', '-', 1)::bigint AS charge,
        sum((value ->> '8')::bigint)::bigint AS refunded, max(sequence) AS newest
    FROM history WHERE value ->> '4' = '2'
    GROUP BY user_id, split_part(value ->> '15', '-', 1)::bigint
),
refund AS (
    SELECT user_id, charge, refunded, newest FROM entitlements.refunds
    WHERE user_id > $1::text AND user_id <= $2::text
),
due AS (
    SELECT user_id, due_us FROM entitlements.due
    WHERE user_id > $1::text AND user_id <= $2::text AND due_us > 0
)
SELECT user_id, 0::bigint AS sequence, 'has transactions and no account' AS what
FROM (SELECT DISTINCT user_id FROM history) AS has
WHERE NOT EXISTS (SELECT FROM account WHERE account.user_id = has.user_id AND account.real)
UNION ALL
SELECT user_id, sequence, 'is beyond the account''s transaction count'
FROM history JOIN account USING (user_id)
WHERE account.real AND sequence > (account.value ->> '3')::bigint
UNION ALL
SELECT user_id, sequence, 'comes before an earlier one in the change feed'
FROM (
    SELECT user_id, sequence,
        place < lag(place) OVER (PARTITION BY user_id ORDER BY sequence) AS is_early
    FROM history
) AS feed
WHERE is_early
UNION ALL
SELECT user_id, coalesce(binding.sequence, bound.sequence),
    CASE WHEN bound.key IS NULL THEN 'is not bound to its key'
        ELSE 'is bound to a key that is not its own' END
FROM binding FULL JOIN bound USING (user_id, key)
WHERE binding.sequence IS DISTINCT FROM bound.sequence
UNION ALL
SELECT user_id, charge, 'has refunds that do not add up to what is stored of them'
FROM returned FULL JOIN refund USING (user_id, charge)
WHERE (returned.refunded, returned.newest) IS DISTINCT FROM (refund.refunded, refund.newest)
UNION ALL
SELECT user_id, 0, 'is due at another time than its account says'
FROM (SELECT user_id, (value ->> '103')::bigint AS due_us FROM account WHERE value ? '103') AS told
FULL JOIN due USING (user_id)
WHERE told.due_us IS DISTINCT FROM due.due_us
ORDER BY user_id, sequence
