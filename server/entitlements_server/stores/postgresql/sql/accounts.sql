-- An empty state is a fence, and not an account.
SELECT user_id, state FROM entitlements.accounts
WHERE user_id > $1::text AND state <> ''
ORDER BY user_id LIMIT $2::bigint
