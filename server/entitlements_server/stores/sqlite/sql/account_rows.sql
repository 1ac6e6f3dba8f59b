-- The same as accounts.sql row by row, as bytes: to find the rows that cannot be decoded.
SELECT CAST(user_id AS BLOB), transaction_count, CAST(stored AS BLOB)
FROM accounts WHERE user_id > ?1 ORDER BY user_id LIMIT ?2
