"""How a server uses the machine. Nothing here changes what it answers.

| module | contents |
|---|---|
| `collector.py` | how often Python's garbage collector runs |
| `processor.py` | on which processor the threads that run Python are |
"""
