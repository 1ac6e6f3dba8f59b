-- The transaction that was recorded last.
SELECT t.stored
FROM (SELECT account, sequence FROM changes ORDER BY position DESC LIMIT 1) AS c
CROSS JOIN transactions AS t ON t.account = c.account AND t.sequence = c.sequence
