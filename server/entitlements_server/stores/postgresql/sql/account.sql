SELECT write_id, state FROM entitlements.accounts WHERE user_id = $1::text
