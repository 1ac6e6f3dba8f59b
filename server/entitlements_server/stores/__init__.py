"""Where transactions are kept: one package or module per engine, all with one interface.

A store has no rules. It prefetches the read set of a group of commands, lets the ledger decide, and
makes each user's part of the decisions durable, whole or not at all.

| module | contents |
|---|---|
| `interface.py` | what a store promises; the comments are the contract, and one test suite proves it |
| `factory.py`, `urls.py` | from a URL to the store |
| `memory.py` | a ledger in memory |
| `sqlite/` | a ledger in one file |
| `postgresql/` | a ledger in a PostgreSQL database |
| `redis/` | a ledger on Redis or Redis Cluster |
| `account_cache.py`, `format.py`, `marked.py`, `user_writes.py` | used by several engines |
| `alerts.py` | log lines about damaged records and clocks |
"""
