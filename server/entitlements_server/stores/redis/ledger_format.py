"""The format and identity of a ledger on Redis: checked first, and made by the first server."""

from typing import Any

from entitlements_server.stores.format import FORMAT, parse
from entitlements_server.stores.interface import LedgerIdentity, StoreConfigurationError
from entitlements_server.stores.redis.connection import LostError
from entitlements_server.stores.redis.schema import BUCKETS, FORMAT_KEY, IDENTITY_KEY, TAGS
from entitlements_server.stores.redis.topology import MisplacedError, Request, Topology


async def open_format(topology: Topology) -> None:
    """Require that this version can read the ledger, and raise its format to this version's.

    Raises:
        StoreConfigurationError: This version cannot read it. Nothing was changed.
        DownError, LostError, UnfitError, ResponseError: A server cannot be used.
    """
    (text,) = await _run(topology, [Request(0, ("GET", FORMAT_KEY))])
    if text is None:
        counts = await _run(
            topology,
            [Request(bucket, ("ZCARD", f"{TAGS[bucket]}:users")) for bucket in range(BUCKETS)],
        )
        if any(counts):
            raise StoreConfigurationError(
                "The ledger in this Redis was written before the first release, in a format that is"
                " no longer read; it was not changed. Name another database."
            )
    found = parse(text.decode("ascii", "replace")) if text is not None else None
    if text is not None and (found is None or not found.is_readable):
        raise StoreConfigurationError(
            f"The ledger in this Redis has format {found or 'unknown'} and this version reads"
            f" formats {FORMAT.major}.x; it was not changed. Run the version that wrote it."
        )
    if found is None or found < FORMAT:
        await _run(topology, [Request(0, ("SET", FORMAT_KEY, str(FORMAT)))])
    await _run(topology, [Request(0, (*write_identity(LedgerIdentity.new()), "NX"))])


def write_identity(identity: LedgerIdentity) -> tuple[str, ...]:
    """Return the Redis command that stores an identity."""
    return ("SET", IDENTITY_KEY, f"{identity.id} {identity.generation}")


def read_identity(stored: bytes) -> LedgerIdentity:
    """Return the identity that is stored."""
    name, _, generation = stored.decode().partition(" ")
    return LedgerIdentity(name, int(generation))


async def _run(topology: Topology, requests: list[Request]) -> list[Any]:
    replies = await topology.run(requests)
    for reply in replies:
        if isinstance(reply, MisplacedError):
            raise LostError("the cluster") from reply
        if isinstance(reply, Exception):
            raise reply
    return replies
