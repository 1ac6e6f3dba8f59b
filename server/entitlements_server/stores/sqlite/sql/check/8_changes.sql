-- Changes of no transaction.
SELECT a.user_id, c.sequence, 'the tail of changes names it and it is not there'
FROM changes AS c
LEFT JOIN transactions AS t ON t.account = c.account AND t.sequence = c.sequence
LEFT JOIN accounts AS a ON a.number = c.account
WHERE t.sequence IS NULL
