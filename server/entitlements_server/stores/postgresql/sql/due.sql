SELECT user_id FROM entitlements.due
WHERE due_us > 0 AND due_us <= $1::bigint
ORDER BY due_us, user_id LIMIT $2::bigint
