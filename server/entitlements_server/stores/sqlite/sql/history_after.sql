-- ?1: user id. ?2: sequence above which to read. ?3: limit. One row: a JSON array, oldest first.
SELECT '[' || coalesce(group_concat(stored), '') || ']' FROM (
    SELECT t.stored
    FROM accounts AS a
    CROSS JOIN transactions AS t ON t.account = a.number
    WHERE a.user_id = ?1 AND t.sequence > ?2
    ORDER BY t.sequence
    LIMIT ?3
)
