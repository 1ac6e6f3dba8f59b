SELECT sequence, body FROM entitlements.transactions
WHERE user_id = $1::text AND sequence BETWEEN $2::bigint AND $3::bigint
ORDER BY sequence
