-- Accounts whose columns differ from the stored account: member 1 is the user, 3 the count.
SELECT user_id, transaction_count, 'its account row is stored under another user or count'
FROM accounts
WHERE stored ->> '1' IS NOT user_id OR stored ->> '3' IS NOT transaction_count
