-- ?1: time, microseconds since 1970 UTC. ?2: limit. Users for whom something is due by then, oldest
-- first. One row: a JSON array of [due time, user id].
SELECT json_group_array(json_array(due_us, user_id)) FROM (
    SELECT d.due_us, a.user_id
    FROM due_times AS d
    CROSS JOIN accounts AS a ON a.number = d.account
    WHERE d.due_us <= ?1
    ORDER BY d.due_us
    LIMIT ?2
)
