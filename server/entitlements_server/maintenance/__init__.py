"""Maintenance of a ledger: verify, checkpoints, export, statistics, and copying it to another store.

All of it uses the interface of the stores, so it works with every store. What only some stores can do,
backups and checks of their own files, uses `SupportsBackup` and `SupportsSelfCheck`.

| module | contents |
|---|---|
| `verify.py` | checks every account against `ledger/invariants.py` |
| `checkpoint.py`, `heads.py`, `merkle.py` | what a ledger contained at a moment: written, read |
| `comparison.py` | what of a checkpoint no longer holds |
| `report.py` | what verify found, as text and JSON |
| `export.py`, `rows.py` | writes all transactions as JSON Lines or CSV |
| `stats.py` | figures of a ledger |
| `copy.py` | copies a ledger and compares the two |
| `restore.py` | puts a backup in the place of a ledger |
| `snapshot.py`, `paging.py`, `read_ahead.py` | opening and reading a whole ledger |
"""
