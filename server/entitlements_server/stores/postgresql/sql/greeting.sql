-- What a server promises, and who answers.
SELECT
    pg_backend_pid() AS pid,
    pg_is_in_recovery() AS is_standby,
    current_setting('server_version_num')::integer AS version,
    current_setting('server_encoding') AS encoding,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS standbys,
    current_setting('statement_timeout') AS statement_timeout,
    current_setting('default_transaction_isolation') AS isolation,
    current_setting('default_transaction_read_only') AS read_only
