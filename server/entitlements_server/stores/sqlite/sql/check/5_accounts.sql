-- Accounts whose columns differ from what is stored in them: member 1 is the user, 3 the count.
SELECT user_id, transaction_count, 'its account row is under another user or count than it says'
FROM accounts
WHERE stored ->> '1' IS NOT user_id OR stored ->> '3' IS NOT transaction_count
