-- Settings of a connection that no pooler is in front of. sql/rights.sql gives them to the role, for
-- where one is.
SELECT
    -- The tables are small when the first plans are made, and what is asked is always by key.
    set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('jit', 'off', false),
    -- A commit that waits for a lock ends soon after its server is gone.
    set_config('client_connection_check_interval', '100ms', false),
    -- A commit is never cut short: while it waits for a standby it would be visible and might be lost.
    set_config('statement_timeout', '0', false),
    set_config('lock_timeout', '0', false),
    -- A server that stalls in its turn does not keep the others from that user for ever.
    set_config('idle_in_transaction_session_timeout', '5s', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('search_path', 'pg_catalog', false)
