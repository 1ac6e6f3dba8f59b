-- The user in whose history so many transactions after a user end, or else the last user of all tables.
SELECT coalesce(
    (
        SELECT user_id FROM entitlements.transactions WHERE user_id > $1::text
        ORDER BY user_id, sequence OFFSET $2::bigint LIMIT 1
    ),
    greatest(
        (SELECT max(user_id) FROM entitlements.accounts),
        (SELECT max(user_id) FROM entitlements.transactions),
        (SELECT max(user_id) FROM entitlements.keys),
        (SELECT max(user_id) FROM entitlements.refunds),
        (SELECT max(user_id) FROM entitlements.due)
    )
) AS user_id
