-- The time of the server, microseconds since 1970 UTC.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS time_us
