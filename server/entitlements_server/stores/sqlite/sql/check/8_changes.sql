-- Changes without a transaction.
SELECT a.user_id, c.sequence, 'the change feed names it, but it does not exist'
FROM changes AS c
LEFT JOIN transactions AS t ON t.account = c.account AND t.sequence = c.sequence
LEFT JOIN accounts AS a ON a.number = c.account
WHERE t.sequence IS NULL
