"""Looking after a ledger: verify, export, statistics, and copying it to another store.

All of it reads through the interface of the stores, so it works for each of them. What only some
can do, backups and checks of their own files, is behind `SupportsBackup` and `SupportsSelfCheck`.
"""
