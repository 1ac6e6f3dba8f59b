"""Where transactions are kept: one module per engine, all behind the interface in `interface.py`.

A store knows no rules. It prefetches the read set of a group of commands, lets the ledger decide, and makes
what was decided durable: all of it, or nothing.
"""
