"""A disk that fails when a test says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw


class FailingDisk(apsw.VFS):
    """Every file as usual, except that the operations in `failing` raise an error.

    Attributes:
        failing: Any of "sync", "write" and "read".
        error: What they raise.
        failures: How often that happened.
    """

    def __init__(self, name: str) -> None:
        self.failing: set[str] = set()
        self.error: type[apsw.Error] = apsw.IOError
        self.failures = 0
        self.name = name
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> "FailingFile":  # noqa: N802  # apsw's name
        return FailingFile(self, name, flags)

    def operate(self, operation: str) -> None:
        if operation in self.failing:
            self.failures += 1
            raise self.error(f"injected: {operation}")

    @contextmanager
    def down(self, *operations: str) -> Iterator[None]:
        """Fail while the block runs."""
        self.failing.update(operations)
        try:
            yield
        finally:
            self.failing.clear()


class FailingFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802  # apsw's name
        self._disk.operate("sync")
        super().xSync(flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  # apsw's name
        self._disk.operate("write")
        super().xWrite(data, offset)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # apsw's name
        self._disk.operate("read")
        return super().xRead(amount, offset)
