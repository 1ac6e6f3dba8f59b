"""Checks that a Redis server is durable enough for a ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

QUESTIONS = (
    ("INFO",),
    ("CONFIG GET", "append*"),
    ("CONFIG GET", "no-appendfsync-on-rewrite"),
)
"""The commands to send; `objection` takes the replies in this order."""

_REMEDY = {
    "always": "appendonly yes and appendfsync always",
    "everysec": "appendonly yes and appendfsync everysec",
}
_WEAKER = {
    "always": "durability=everysec, and lose about a second of acknowledged writes in a crash",
    "everysec": "durability=none, and lose all that was acknowledged since the last snapshot",
}


def objection(durability: str, answers: Sequence[Any], *, cluster: bool) -> str | None:
    """Return why a server cannot be used for a ledger, or None if it can.

    Args:
        durability: The required durability: one of url.DURABILITIES.
        answers: The replies to QUESTIONS, some of which may be errors.
        cluster: Whether the URL names a cluster.

    Returns:
        A sentence that says what to change, or None.
    """
    info, append, rewrite = answers
    if isinstance(info, ResponseError):
        return "It does not report its state: allow this user the command INFO."
    if info.get("role") == "slave":
        return "It is a replica, which accepts no writes: name its master."
    if info.get("cluster_enabled") and not cluster:
        return (
            "It is a node of a Redis Cluster, which has only some of the users: write redis+cluster://"
            " instead of redis:// in the store's URL, with rediss+cluster:// for TLS."
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        return (
            f"It deletes data when its memory is full (maxmemory-policy {policy}): set"
            " maxmemory-policy to noeviction."
        )
    if durability in ("unknown", "none"):
        return None
    if isinstance(append, ResponseError) or isinstance(rewrite, ResponseError):
        return (
            "It does not report how it persists, because CONFIG is forbidden: allow CONFIG GET, or"
            " add durability=unknown to the store's URL if you know that acknowledged writes are"
            " on disk."
        )
    return _weakness(durability, {**append, **rewrite})


def _weakness(durability: str, config: Mapping[str, str]) -> str | None:
    appendonly, appendfsync = config.get("appendonly"), config.get("appendfsync")
    # With this option the file is not synced while it is being rewritten.
    skips = durability == "always" and config.get("no-appendfsync-on-rewrite") == "yes"
    if appendonly == "yes" and not skips and appendfsync in ("always", durability):
        return None
    has = "appendonly no" if appendonly != "yes" else f"appendfsync {appendfsync}"
    if appendonly == "yes" and skips:
        has += " and no-appendfsync-on-rewrite yes"
    return (
        f"It is less durable than durability={durability} requires: it has {has}. Set"
        f" {_REMEDY[durability]}{' and no-appendfsync-on-rewrite no' if skips else ''}, or name the"
        f" weaker promise in the store's URL: {_WEAKER[durability]}."
    )
