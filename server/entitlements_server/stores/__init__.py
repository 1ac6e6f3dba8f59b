"""Where transactions are kept: one module per engine, all behind the port in `port.py`.

A store knows no rules. It loads what a group of commands needs, lets the ledger decide, and makes
what was decided durable: all of it, or nothing.
"""
