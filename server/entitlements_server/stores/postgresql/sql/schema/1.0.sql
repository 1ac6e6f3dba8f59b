-- The tables of a ledger, format 1.0. docs/postgresql.md says what each is for.

-- One row: which ledger this is, and the generation of it (see LedgerIdentity). `epoch` is raised when the cluster's transaction ids have begun
-- again, which a dump that is restored into another cluster does.
CREATE TABLE entitlements.ledger (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id text NOT NULL,
    generation bigint NOT NULL,
    major integer NOT NULL,
    minor integer NOT NULL,
    epoch bigint NOT NULL DEFAULT 0
);

-- `write id` is the random id of the newest write, `base` that of the write before it, 0 for none.
-- An empty `state` is an account without transactions: a fence, see write.py.
-- There is no second index, so an update stays on its page (HOT), where fillfactor leaves room.
CREATE TABLE entitlements.accounts (
    user_id text COLLATE "C" PRIMARY KEY,
    base bigint NOT NULL,
    write_id bigint NOT NULL,
    state bytea NOT NULL
) WITH (fillfactor = 70);

-- `position` is the epoch and the transaction id of the statement that wrote the row; `write id` is
-- that of the write.
CREATE TABLE entitlements.transactions (
    user_id text COLLATE "C",
    sequence bigint,
    position bigint NOT NULL,
    write_id bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (user_id, sequence)
);
CREATE INDEX transactions_feed ON entitlements.transactions (position, user_id, sequence);

CREATE TABLE entitlements.keys (
    user_id text COLLATE "C",
    key text COLLATE "C",
    sequence bigint NOT NULL,
    PRIMARY KEY (user_id, key)
);

-- What was given back of a charge, and the sequence of its newest refund.
CREATE TABLE entitlements.refunds (
    user_id text COLLATE "C",
    charge bigint,
    refunded bigint NOT NULL,
    newest bigint NOT NULL,
    PRIMARY KEY (user_id, charge)
);

-- When something of an account lapses next, microseconds since 1970 UTC; 0: nothing does.
CREATE TABLE entitlements.due (
    user_id text COLLATE "C" PRIMARY KEY,
    due_us bigint NOT NULL
);
CREATE INDEX due_order ON entitlements.due (due_us, user_id) WHERE due_us > 0;
