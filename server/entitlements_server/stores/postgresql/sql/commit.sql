-- Stores what was decided for each user whose account and keys still are what it was decided on.
-- It has no rules: it compares, and writes its arguments. One statement is one transaction.
--
-- $1       synchronous_commit for this transaction
-- $2..$5   for each user: user id, the write id decided on (0: no account), the new write id, the account
-- $6..$9   for each key that was looked at: write id of its write, user id, key, sequence it was presumed
--          to be bound to (0: none)
-- $10..$12 transactions: write id of its write, sequence, body
-- $13..$15 keys to bind: write id, key, sequence
-- $16..$19 refunds: write id, sequence of the charge, refunded so far, sequence of the newest
-- $20..$21 due times: write id, due time
--
-- Returns the write ids of what was stored.
WITH durably AS MATERIALIZED (
    -- Behind a pooler somebody else may have set it for this connection.
    SELECT set_config('synchronous_commit', $1::text, true)
),
refuted AS MATERIALIZED (
    -- LATERAL and LIMIT, as a plan made while the table was small would scan it for ever.
    SELECT presumed.write_id
    FROM unnest($6::bigint[], $7::text[], $8::text[], $9::bigint[])
        AS presumed (write_id, user_id, key, sequence)
    LEFT JOIN LATERAL (
        SELECT keys.sequence FROM entitlements.keys
        WHERE keys.user_id = presumed.user_id AND keys.key = presumed.key
        LIMIT 1
    ) AS bound ON true
    WHERE coalesce(bound.sequence, 0) <> presumed.sequence
),
won AS (
    INSERT INTO entitlements.accounts AS account (user_id, base, write_id, state)
    SELECT decided.user_id, decided.base, decided.write_id, decided.state
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
        AS decided (user_id, base, write_id, state)
    CROSS JOIN durably
    WHERE decided.write_id NOT IN (SELECT refuted.write_id FROM refuted)
    -- Every statement takes its locks in this order: that is what prevents deadlocks.
    ORDER BY decided.user_id COLLATE "C"
    ON CONFLICT (user_id) DO UPDATE
        SET base = excluded.base, write_id = excluded.write_id, state = excluded.state
        WHERE account.write_id = excluded.base
    RETURNING account.user_id, account.write_id,
        -- An account that was decided on and is gone must not begin again in the middle of its
        -- history: divide by zero, which refuses the statement.
        1 / (CASE WHEN account.xmax = 0 AND account.base <> 0 THEN 0 ELSE 1 END)
),
place AS MATERIALIZED (
    SELECT (ledger.epoch << 48) | pg_current_xact_id()::text::bigint AS position
    FROM entitlements.ledger
),
recorded AS (
    INSERT INTO entitlements.transactions (user_id, sequence, position, write_id, body)
    SELECT won.user_id, new.sequence, (SELECT position FROM place), new.write_id, new.body
    FROM unnest($10::bigint[], $11::bigint[], $12::bytea[]) AS new (write_id, sequence, body)
    JOIN won ON won.write_id = new.write_id
),
bound AS (
    INSERT INTO entitlements.keys (user_id, key, sequence)
    SELECT won.user_id, new.key, new.sequence
    FROM unnest($13::bigint[], $14::text[], $15::bigint[]) AS new (write_id, key, sequence)
    JOIN won ON won.write_id = new.write_id
    ON CONFLICT (user_id, key) DO UPDATE SET sequence = excluded.sequence
),
refunded AS (
    INSERT INTO entitlements.refunds (user_id, charge, refunded, newest)
    SELECT won.user_id, new.charge, new.refunded, new.newest
    FROM unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[])
        AS new (write_id, charge, refunded, newest)
    JOIN won ON won.write_id = new.write_id
    ON CONFLICT (user_id, charge) DO UPDATE
        SET refunded = excluded.refunded, newest = excluded.newest
),
falling_due AS (
    INSERT INTO entitlements.due (user_id, due_us)
    SELECT won.user_id, new.due_us
    FROM unnest($20::bigint[], $21::bigint[]) AS new (write_id, due_us)
    JOIN won ON won.write_id = new.write_id
    ON CONFLICT (user_id) DO UPDATE SET due_us = excluded.due_us
)
SELECT won.write_id FROM won
