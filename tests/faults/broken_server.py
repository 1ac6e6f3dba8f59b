"""The server with one promise broken: `python -m faults.broken_server NAME serve --store ...`."""

import sys

from entitlements_server.cli import main
from faults.breaks import broken

if __name__ == "__main__":
    name = sys.argv.pop(1)
    with broken(name):
        main()
