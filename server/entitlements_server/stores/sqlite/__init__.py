"""`sqlite:///absolute/path`: a durable ledger in one file, for one server process.

A log-structured merge tree with two levels. A commit appends its group to the commit log, with one
row and one sync, and is answered; the memtable serves the new transactions from memory. When a
segment of the memtable is large enough it is sealed, sorted, and flushed in batches to the indexed
tables.

| module | contents |
|---|---|
| `store.py` | the store's interface |
| `memtable.py` | what is not in the tables yet |
| `connections.py` | the two connections to the file and their threads |
| `writer.py` | the work of the writing thread: recover, commit, append |
| `database.py`, `sql/` | every statement, and the schema |
| `codec.py` | values as the JSON that is stored |
| `file_format.py`, `lock.py` | what marks a file as a ledger, and the lock on it |
| `companions.py`, `mounts.py` | the files beside it, and the file system it is on |
| `wal_rewrite.py` | recovery after a failed sync |
| `backup.py`, `restore_mark.py`, `check.py` | for maintenance |
"""

from entitlements_server.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
