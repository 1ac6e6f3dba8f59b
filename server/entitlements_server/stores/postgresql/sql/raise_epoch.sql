-- A dump that is restored into another cluster may meet lower transaction ids than those of its rows.
UPDATE entitlements.ledger SET epoch = newest.epoch + 1
FROM (
    SELECT row.position >> 48 AS epoch FROM entitlements.transactions AS row
    ORDER BY row.position DESC LIMIT 1
) AS newest
WHERE ledger.epoch <= newest.epoch
    AND (SELECT max(row.position) FROM entitlements.transactions AS row)
        >= ((ledger.epoch << 48) | pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
RETURNING ledger.epoch
