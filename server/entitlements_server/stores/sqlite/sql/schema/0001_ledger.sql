-- The commit log: groups that are not flushed yet, one row each, all that a commit writes.
-- `transactions` is a JSON array of rows as `codec.py` orders them.
CREATE TABLE commit_log (
    position INTEGER PRIMARY KEY,
    transactions TEXT NOT NULL
) STRICT;

-- The state of each user, as of the newest flushed transaction.
CREATE TABLE accounts (
    number INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    balance INTEGER NOT NULL,
    transaction_count INTEGER NOT NULL,
    create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL
) STRICT;

-- The histories. `account` is accounts.number.
CREATE TABLE transactions (
    account INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    feature TEXT NOT NULL,
    cost INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    balance_after INTEGER NOT NULL,
    create_time_us INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    reason TEXT NOT NULL,
    refunded_transaction_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    catalogue_version TEXT NOT NULL,
    PRIMARY KEY (account, sequence)
) STRICT, WITHOUT ROWID;

-- Which transaction each idempotency key is bound to.
CREATE TABLE idempotency_keys (
    account INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (account, idempotency_key)
) STRICT, WITHOUT ROWID;

-- What was refunded of each charge that has refunds, and by which refund last.
CREATE TABLE refunds (
    account INTEGER NOT NULL,
    charge_sequence INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    PRIMARY KEY (account, charge_sequence)
) STRICT, WITHOUT ROWID;
