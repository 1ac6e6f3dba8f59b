-- The change feed after a position, user and sequence, in commit order for each user.
--
-- Only rows whose transaction is older than all that still run: what commits later has a higher
-- position than anything returned. So a writing transaction left open in any database of the cluster
-- stalls the feed.
SELECT row.position, row.user_id, row.sequence, row.body
FROM entitlements.transactions AS row
WHERE (row.position, row.user_id, row.sequence) > ($1::bigint, $2::text, $3::bigint)
    AND row.position < (
        SELECT (ledger.epoch << 48) | pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        FROM entitlements.ledger
    )
ORDER BY row.position, row.user_id, row.sequence LIMIT $4::bigint
