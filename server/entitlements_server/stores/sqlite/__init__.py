"""`sqlite:///absolute/path`: a durable ledger in one file, for one server process.

It is a log-structured merge tree of two levels. A commit appends its group to the commit log, one
row and one sync, and is answered; the memtable serves its transactions from memory. When a segment
of the memtable has grown large it is sealed, sorted, and flushed batch by batch to the indexed tables.

`store.py` is the interface, `memtable.py` what is not in the tables yet. `connections.py` runs work
on the file in two threads, `writer.py` is what the writing one does, and `database.py` holds every
statement. `codec.py` turns values into what is stored. `lock.py` keeps other processes out and
`wal_rewrite.py` distrusts what a failed sync left. `backup.py` and `check.py` are for maintenance.
"""

from entitlements_server.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
