"""Looking after the data: backup, verification, export and statistics of a ledger.

All but the backup read through the store port, so they work for every store.
"""
