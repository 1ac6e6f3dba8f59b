-- ?1: user id. ?2, ?3: sequences above and below which to read. ?4: limit, newest first. Row by row, as
-- bytes: to find the rows that cannot be decoded.
SELECT t.sequence, CAST(t.stored AS BLOB)
FROM accounts AS a
CROSS JOIN transactions AS t ON t.account = a.number
WHERE a.user_id = ?1 AND t.sequence > ?2 AND t.sequence < ?3
ORDER BY t.sequence DESC
LIMIT ?4
