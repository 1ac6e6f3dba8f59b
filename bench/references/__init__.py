"""What a charge is measured beside: servers that do nothing, and what a careful team writes instead.

Each runs as a process of its own, as `python -m references.NAME`, and prints `Listening on HOST:PORT`
once it answers. `start.py` starts them.
"""
