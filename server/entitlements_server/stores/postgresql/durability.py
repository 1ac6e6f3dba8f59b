"""Checks that a PostgreSQL server is durable enough for a ledger, and fit for it otherwise."""

from collections.abc import Mapping
from typing import Any

_MIN_VERSION = 150000
_STRONG = ("on", "remote_apply")


def objection(durability: str, promises: Mapping[str, Any]) -> str | None:
    """Return why a server cannot be used for a ledger, or None if it can.

    Args:
        durability: The required durability: one of url.DURABILITIES.
        promises: The row that sql/greeting.sql returns.

    Returns:
        A sentence that says what to change, or None.
    """
    if promises["is_standby"]:
        return "It is a standby, which accepts no writes: name its primary."
    if promises["read_only"] != "off":
        return "It accepts no writes: set default_transaction_read_only to off for this role."
    if promises["version"] < _MIN_VERSION:
        return "It is older than PostgreSQL 15, the oldest that the ledger runs on: upgrade it."
    if promises["encoding"] != "UTF8":
        return (
            f"Its database has the encoding {promises['encoding']}: create one with the encoding"
            " UTF8."
        )
    if promises["statement_timeout"] != "0" or promises["isolation"] != "read committed":
        return (
            "A pooler is in front of it, and the role has a statement_timeout or an isolation level"
            " other than read committed: run sql/rights.sql, which sets what the role must have."
        )
    if durability == "none":
        return None
    weak = [f"{name} off" for name in ("fsync", "full_page_writes") if promises[name] != "on"]
    if promises["synchronous_commit"] not in _STRONG:
        weak.append(f"synchronous_commit {promises['synchronous_commit']}")
    if not weak:
        return None
    return (
        f"It may lose acknowledged writes in a crash: it has {' and '.join(weak)}. Set fsync,"
        " full_page_writes and synchronous_commit to on, or name the weaker promise in the store's"
        " URL: durability=none."
    )
