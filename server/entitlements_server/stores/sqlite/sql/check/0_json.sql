-- Values that are no JSON. Statements that look into them fail, so the other checks may.
SELECT user_id, 0, 'its row in the table accounts is no JSON'
FROM accounts WHERE NOT json_valid(stored)
UNION ALL
SELECT a.user_id, t.sequence, 'its row in the table transactions is no JSON'
FROM transactions AS t
LEFT JOIN accounts AS a ON a.number = t.account
WHERE NOT json_valid(t.stored)
