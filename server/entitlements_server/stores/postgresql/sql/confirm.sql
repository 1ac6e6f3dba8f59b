-- A commit that changes nothing: on return everything before it is as durable as it is.
SELECT set_config('synchronous_commit', $1::text, true),
    pg_logical_emit_message(true, 'entitlements', '')
