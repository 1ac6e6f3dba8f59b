"""How much memory a process takes at most while something happens."""

import threading
from typing import Self

import psutil

_LOOK_S = 0.02
_MIB = 2**20


class Peak:
    """Looks at a process's resident memory until the block ends.

    Attributes:
        before_mib: At the start of the block.
        most_mib: The most that was seen since.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.before_mib = self.most_mib = self._now_mib()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth_mib(self) -> float:
        """By how much it had grown at most."""
        return self.most_mib - self.before_mib

    def _now_mib(self) -> float:
        return float(self._process.memory_info().rss / _MIB)

    def _look(self) -> None:
        try:
            while not self._over.wait(_LOOK_S):
                self.most_mib = max(self.most_mib, self._now_mib())
        except psutil.NoSuchProcess:
            return  # It has ended; whoever looks after it finds out.
