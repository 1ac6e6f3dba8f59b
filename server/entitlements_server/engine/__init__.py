"""Commits together what arrives together.

| module | contents |
|---|---|
| `engine.py` | gathers commands into groups, and answers them |
| `bisection.py` | commits a group so that what cannot be committed fails alone |
| `clock.py` | the time that decisions are made at |
| `sweeper.py` | records what has lapsed of accounts of which nothing else is recorded |
| `handover.py` | from any thread to the event loop |
"""
