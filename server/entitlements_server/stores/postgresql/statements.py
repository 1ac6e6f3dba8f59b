"""The SQL statements, each from a file of its own."""

from importlib import resources

_FOLDER = resources.files(__package__) / "sql"


def _text(name: str) -> str:
    return (_FOLDER / f"{name}.sql").read_text("utf-8")


COMMIT = _text("commit")
"""Stores what was decided, by compare-and-set."""

PREFETCH = _text("prefetch")
"""Reads the read sets of any users."""

LOCK = _text("lock")
"""Takes the turn of a user."""

EARLY = _text("early")
"""Asks whether a turn has a lower transaction id than what it goes on from."""

SESSION = _text("session")
"""Sets up a connection that no pooler is in front of."""

GREETING = _text("greeting")
"""Asks what a server promises."""

CONFIRM = _text("confirm")
"""Returns when everything that was committed before it is as durable as a commit."""

ACCOUNT = _text("account")
TRANSACTION = _text("transaction")
HISTORY = _text("history")
ACCOUNTS = _text("accounts")
DUE = _text("due")
CHANGES = _text("changes")
NEWEST = _text("newest")
TIME = _text("time")
CHECK = _text("check")
CHECK_BOUND = _text("check_bound")
CHECK_USERS = _text("check_users")

LEDGER = _text("ledger")
"""Reads which ledger it is."""

RAISE_EPOCH = _text("raise_epoch")
"""Raises the epoch if transaction ids have begun again."""
