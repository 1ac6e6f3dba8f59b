-- Whether this transaction got its id before the newest transaction of a user was written.
--
-- A lock that is waited for twice, since another write came first, brings an id after the first wait.
SELECT (
    SELECT row.position FROM entitlements.transactions AS row
    WHERE row.user_id = $1::text
    ORDER BY row.sequence DESC LIMIT 1
) > (
    SELECT (ledger.epoch << 48) | pg_current_xact_id()::text::bigint FROM entitlements.ledger
) AS is_early
