-- Values are stored as ledger/encoding.py writes them, in columns called `stored`. The other columns
-- are what statements look for. A later version adds columns with defaults, and tables.

-- The commit log: groups that are not flushed yet, one row each. A commit writes nothing else.
-- `transactions` is a JSON array of stored transactions.
CREATE TABLE commit_log (
    position INTEGER PRIMARY KEY,
    transactions TEXT NOT NULL
) STRICT;

-- The state of each user, as of the newest flushed transaction.
CREATE TABLE accounts (
    number INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    transaction_count INTEGER NOT NULL,
    stored TEXT NOT NULL
) STRICT;

-- The histories. `account` is accounts.number, here and below.
CREATE TABLE transactions (
    account INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    stored TEXT NOT NULL,
    PRIMARY KEY (account, sequence)
) STRICT, WITHOUT ROWID;

-- Which transaction each idempotency key is bound to, and which charge opened each access window: its
-- name has a space, which no key has.
CREATE TABLE idempotency_keys (
    account INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (account, idempotency_key)
) STRICT, WITHOUT ROWID;

-- For each charge with refunds: the total refunded, and its newest refund.
CREATE TABLE refunds (
    account INTEGER NOT NULL,
    charge_sequence INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    PRIMARY KEY (account, charge_sequence)
) STRICT, WITHOUT ROWID;

-- When something of an account lapses next, microseconds since 1970 UTC. Most accounts have no row.
CREATE TABLE due_times (
    account INTEGER PRIMARY KEY,
    due_us INTEGER NOT NULL
) STRICT;
CREATE INDEX due_times_in_order ON due_times (due_us);

-- The change feed: what was recorded, in commit order. A position is that of the
-- group in the commit log, times 4096, and the index in the group.
CREATE TABLE changes (
    position INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    sequence INTEGER NOT NULL
) STRICT;

-- The identity of the ledger: one row. The generation is higher each time the ledger was restored from
-- a backup or copied.
CREATE TABLE identity (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO identity (only, id, generation) VALUES (1, lower(hex(randomblob(16))), 1);
