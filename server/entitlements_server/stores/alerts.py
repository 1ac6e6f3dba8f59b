"""Log lines about what an operator has to look at: damaged records, and clocks that run ahead.

Each is written at once, and then at most once a minute, however many calls meet it.
"""

import time
from collections.abc import Callable, Iterable
from threading import Lock

import structlog
from cachetools import TTLCache

from entitlements_server.ledger.outcomes import Recorded
from entitlements_server.stores.interface import CommandResult, DamagedRecordError

log = structlog.get_logger()

CLOCK_TOLERANCE_US = 5_000_000
"""How far a history may be ahead of the clock without a warning: clocks are never exactly equal."""

_QUIET_S = 60.0
_MAX_REMEMBERED = 1000
_CLOCK = "clock"


class Alerts:
    """Writes alerts to the log. Thread-safe.

    Args:
        timer: Seconds that pass evenly.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._recent: TTLCache[str, None] = TTLCache(_MAX_REMEMBERED, _QUIET_S, timer)
        self._lock = Lock()

    def damaged(self, error: DamagedRecordError) -> None:
        """Report a damaged record."""
        if self._is_first(error.reference):
            log.error(
                "A stored record is damaged. Calls that need it fail with RECORD_DAMAGED; other users"
                " are served. Repair the record or restore it from a backup, then run"
                " `entitlements-server verify`.",
                reference=error.reference,
                user_id=error.user_id,
                record=error.record,
                problem=error.problem,
            )

    def recorded(self, results: Iterable[CommandResult]) -> None:
        """Report histories that are ahead of the clock by which something was just recorded."""
        for result in results:
            # The time of the decision is recorded only where it differs.
            if type(result) is not Recorded or not result.transaction.decision_time_us:
                continue
            transaction = result.transaction
            ahead_us = transaction.create_time_us - transaction.decision_time_us
            if ahead_us > CLOCK_TOLERANCE_US and self._is_first(_CLOCK):
                log.warning(
                    "The history of a user is ahead of this server's clock, so its new transactions"
                    " are dated as its newest one; their decision_time is right. A clock ran ahead,"
                    " or this one is behind: check the clocks of all servers. `entitlements-server"
                    " verify` names the users.",
                    user_id=transaction.user_id,
                    transaction_id=transaction.transaction_id,
                    seconds_ahead=round(ahead_us / 1e6, 3),
                )

    def _is_first(self, what: str) -> bool:
        """Return whether there was no line about this for a minute."""
        with self._lock:
            if what in self._recent:
                return False
            self._recent[what] = None
            return True
