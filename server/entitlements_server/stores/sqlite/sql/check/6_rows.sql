-- Transactions that are stored under another user or sequence than they say: members 2 and 3.
SELECT a.user_id, t.sequence, 'its row is under another user or sequence than it says'
FROM transactions AS t
CROSS JOIN accounts AS a ON a.number = t.account
WHERE t.stored ->> '2' IS NOT a.user_id OR t.stored ->> '3' IS NOT t.sequence
