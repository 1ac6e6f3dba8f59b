"""The rules once more, written independently and naively, and machines that compare both.

| module | contents |
|---|---|
| `rules.py` | the model: what has to come of each command |
| `machine.py` | random commands at random times, on a store and on the model |
| `bugs.py` | seeded bugs, which the machine has to find |
"""
