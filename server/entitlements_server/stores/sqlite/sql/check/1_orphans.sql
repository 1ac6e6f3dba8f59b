-- Transactions without an account.
SELECT NULL, t.sequence, 'it belongs to no account'
FROM transactions AS t
LEFT JOIN accounts AS a ON a.number = t.account
WHERE a.number IS NULL
