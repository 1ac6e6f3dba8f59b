-- Reads the read sets of any users, all on one snapshot.
--
-- $1      user ids
-- $2, $3  user id and idempotency key of each key
-- $4, $5  user id and sequence of each transaction that a refund names
-- $6, $7  user id and sequence of each transaction of which only the write id is asked for
--
-- Returns for what was found: what it is, its index in the arrays, and
--   account: its write id and state
--   key: the sequence that it is bound to, that transaction, and what was refunded of it
--   charge: the transaction, what was refunded of it, and sequence and body of the newest refund
--   write id: the write id
SELECT 'account' AS what, asked.index, account.write_id AS number, account.state AS body,
    0::bigint AS refunded, 0::bigint AS last, NULL::bytea AS newest
FROM unnest($1::text[]) WITH ORDINALITY AS asked (user_id, index)
CROSS JOIN LATERAL (
    SELECT one.write_id, one.state FROM entitlements.accounts AS one
    WHERE one.user_id = asked.user_id LIMIT 1
) AS account
UNION ALL
SELECT 'key', asked.index, bound.sequence, bound.body, coalesce(bound.refunded, 0), 0, NULL
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS asked (user_id, key, index)
CROSS JOIN LATERAL (
    SELECT one.sequence, row.body, refund.refunded FROM entitlements.keys AS one
    LEFT JOIN entitlements.transactions AS row
        ON row.user_id = one.user_id AND row.sequence = one.sequence
    LEFT JOIN entitlements.refunds AS refund
        ON refund.user_id = one.user_id AND refund.charge = one.sequence
    WHERE one.user_id = asked.user_id AND one.key = asked.key LIMIT 1
) AS bound
UNION ALL
SELECT 'charge', asked.index, asked.sequence, charge.body, coalesce(charge.refunded, 0),
    coalesce(charge.last, 0), charge.newest
FROM unnest($4::text[], $5::bigint[]) WITH ORDINALITY AS asked (user_id, sequence, index)
CROSS JOIN LATERAL (
    SELECT one.body, refund.refunded, refund.newest AS last, newest.body AS newest
    FROM entitlements.transactions AS one
    LEFT JOIN entitlements.refunds AS refund
        ON refund.user_id = one.user_id AND refund.charge = one.sequence
    LEFT JOIN entitlements.transactions AS newest
        ON newest.user_id = one.user_id AND newest.sequence = refund.newest
    WHERE one.user_id = asked.user_id AND one.sequence = asked.sequence LIMIT 1
) AS charge
UNION ALL
SELECT 'write_id', asked.index, row.write_id, NULL, 0, 0, NULL
FROM unnest($6::text[], $7::bigint[]) WITH ORDINALITY AS asked (user_id, sequence, index)
CROSS JOIN LATERAL (
    SELECT one.write_id FROM entitlements.transactions AS one
    WHERE one.user_id = asked.user_id AND one.sequence = asked.sequence LIMIT 1
) AS row
