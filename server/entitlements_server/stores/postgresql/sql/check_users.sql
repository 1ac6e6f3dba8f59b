-- The users after $1 up to $2.
SELECT user_id FROM entitlements.accounts WHERE user_id > $1::text AND user_id <= $2::text
UNION
SELECT user_id FROM entitlements.transactions WHERE user_id > $1::text AND user_id <= $2::text
ORDER BY user_id
