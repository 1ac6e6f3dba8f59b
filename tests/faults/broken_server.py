"""The server as the checks need it: `python -m faults.broken_server NAME serve --store ...`.

NAME is the promise that is broken, or empty. If FAULTS_LEAPS names a file, the server's clock leaps as that says
(`clocks.py`), and its sweeper looks often.
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from entitlements_server import app
from entitlements_server.cli import main
from entitlements_server.engine import clock, sweeper
from entitlements_server.stores.interface import Store
from faults.breaks import broken
from faults.clocks import SharedOffset

SWEEP_EVERY_S = 0.2


class _Leaping:
    """The server's own clock, ahead by an offset. What else there is of it stays."""

    def __init__(self, real: clock.Clock, offset: SharedOffset) -> None:
        self._real = real
        self._offset = offset

    def now_us(self) -> int:
        return self._real.now_us() + self._offset.us

    def decision_us(self) -> int:
        return self._real.decision_us() + self._offset.us

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _serve(leaps: str) -> None:
    if not leaps:
        main()
        return
    offset = SharedOffset(Path(leaps))

    async def clock_of(store: Store) -> Any:
        return _Leaping(await clock.clock_of(store), offset)

    with patch.object(app, "clock_of", clock_of), patch.object(sweeper, "POLL_S", SWEEP_EVERY_S):
        main()


if __name__ == "__main__":
    with broken(sys.argv.pop(1)):
        _serve(os.environ.get("FAULTS_LEAPS", ""))
