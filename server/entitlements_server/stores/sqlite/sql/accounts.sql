-- ?1: user id after which to read, or ''. ?2: limit. One row: a JSON array, as in prefetch.sql.
SELECT '[' || coalesce(group_concat(
    '[' || json_quote(user_id) || ',' || transaction_count || ',' || stored || ']'
), '') || ']' FROM (
    SELECT user_id, transaction_count, stored
    FROM accounts WHERE user_id > ?1 ORDER BY user_id LIMIT ?2
)
