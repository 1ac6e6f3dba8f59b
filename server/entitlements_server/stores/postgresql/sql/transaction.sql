SELECT body FROM entitlements.transactions WHERE user_id = $1::text AND sequence = $2::bigint
