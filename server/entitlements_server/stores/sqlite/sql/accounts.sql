-- ?1: user id behind which to read, or ''. ?2: how many. One row: a JSON array.
SELECT json_group_array(json(row)) FROM (
    SELECT json_array(
        user_id, balance, transaction_count, create_time_us, update_time_us) AS row
    FROM accounts
    WHERE user_id > ?1
    ORDER BY user_id
    LIMIT ?2
)
