-- ?1: user id after which to read, or ''. ?2: limit. One row: a JSON array.
SELECT '[' || coalesce(group_concat(stored), '') || ']' FROM (
    SELECT stored FROM accounts WHERE user_id > ?1 ORDER BY user_id LIMIT ?2
)
