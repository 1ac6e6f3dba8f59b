"""`sqlite:///absolute/path`: a durable ledger in one file, for one server process.

A commit appends its group to the journal, one row and one sync, and is answered. The indexed
tables follow behind in larger, sorted slices; until then the transactions are read from memory.

`store.py` is the port, `tail.py` the part of the ledger that is not indexed yet, in memory.
`connections.py` runs work on the file in two threads, `writing.py` is what the writing one does, and
`database.py` holds every statement. `lock.py` keeps other processes out.
"""

from entitlements_server.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
