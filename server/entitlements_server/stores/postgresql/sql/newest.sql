-- The transaction that was recorded last.
SELECT user_id, sequence, body FROM entitlements.transactions
ORDER BY position DESC, user_id DESC, sequence DESC LIMIT 1
