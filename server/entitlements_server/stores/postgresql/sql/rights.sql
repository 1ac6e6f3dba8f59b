-- The role of the ledger's servers: psql -d LEDGER_DATABASE -f rights.sql, as a superuser.
-- Then: \password entitlements
--
-- It owns one schema, in which its servers make and upgrade the tables, and has no other rights.
CREATE ROLE entitlements LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
CREATE SCHEMA entitlements AUTHORIZATION entitlements;

-- What a server sets by itself where no pooler is in front: see session.sql.
ALTER ROLE entitlements SET plan_cache_mode = force_generic_plan;
ALTER ROLE entitlements SET jit = off;
ALTER ROLE entitlements SET client_connection_check_interval = '100ms';
ALTER ROLE entitlements SET statement_timeout = 0;
ALTER ROLE entitlements SET lock_timeout = 0;
ALTER ROLE entitlements SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE entitlements SET default_transaction_isolation = 'read committed';
ALTER ROLE entitlements SET search_path = pg_catalog;
