-- Transactions stored under a user or sequence other than their own: members 2 and 3.
SELECT a.user_id, t.sequence, 'its row is stored under another user or sequence'
FROM transactions AS t
CROSS JOIN accounts AS a ON a.number = t.account
WHERE t.stored ->> '2' IS NOT a.user_id OR t.stored ->> '3' IS NOT t.sequence
