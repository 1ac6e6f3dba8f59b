"""`sqlite:///absolute/path`: a durable ledger in one file, for one server process.

A commit appends its group to the journal, one row and one sync, and is answered. The indexed
tables follow behind in larger, sorted slices; until then the transactions are read from memory.

`lock.py` keeps other processes out, `database.py` holds every statement, `tail.py` is the part of
the ledger that is not indexed yet, `writing.py` is what the writing thread does, `store.py` is the
port.
"""

from entitlements_server.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
