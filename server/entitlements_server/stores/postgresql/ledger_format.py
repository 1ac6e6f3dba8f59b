"""The format and identity of a ledger on PostgreSQL: the tables, made and upgraded by one server at a time."""

from importlib import resources

from entitlements_server.stores.format import FORMAT, Format, parse
from entitlements_server.stores.interface import LedgerIdentity, StoreConfigurationError
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.connections import UnfitError
from entitlements_server.stores.postgresql.statements import LEDGER, RAISE_EPOCH

_EXISTS = "SELECT to_regnamespace('entitlements') IS NOT NULL, to_regclass('entitlements.ledger') IS NOT NULL"
# "entitlem" as a number. Held to the end of the transaction.
_LOCK = "SELECT pg_advisory_xact_lock(7308620150268981613)"
_BEGIN = (
    "INSERT INTO entitlements.ledger (id, generation, major, minor)"
    " VALUES ($1::text, $2::bigint, 0, 0)"
)
_ADOPT = "UPDATE entitlements.ledger SET id = $1::text, generation = $2::bigint"
_MARK = "UPDATE entitlements.ledger SET major = $1::integer, minor = $2::integer"


async def open_format(connection: Connection) -> None:
    """Make the tables if there are none, and raise the ledger's format to this version's.

    Raises:
        StoreConfigurationError: This version cannot read the ledger. Nothing was changed.
    """
    async with connection.transaction():
        await connection.fetch(_LOCK)
        ((has_schema, has_ledger),) = await connection.fetch(_EXISTS)
        found = None
        if has_ledger:
            found = await _found(connection)
            if not found.is_readable:
                raise StoreConfigurationError(
                    f"The ledger in this PostgreSQL has format {found} and this version reads"
                    f" formats {FORMAT.major}.x; it was not changed. Run the version that wrote it."
                )
        elif not has_schema:
            await connection.execute("CREATE SCHEMA entitlements")
        for version, script in _migrations():
            if version <= FORMAT and (found is None or version > found):
                await connection.execute(script)
        if found is None:
            identity = LedgerIdentity.new()
            await connection.fetch(_BEGIN, identity.id, identity.generation)
        if found is None or found < FORMAT:
            await connection.fetch(_MARK, FORMAT.major, FORMAT.minor)


async def check_format(connection: Connection) -> None:
    """Require of a new connection that the ledger is there and can be read.

    Raises:
        UnfitError: It cannot.
    """
    ((_, has_ledger),) = await connection.fetch(_EXISTS)
    if not has_ledger:
        raise UnfitError(
            "There is no ledger in this PostgreSQL database any more: it was dropped, or this is"
            " another database. Restart the server if a new ledger is to be made."
        )
    found = await _found(connection)
    if not found.is_readable:
        raise UnfitError(
            f"The ledger has format {found} and this server reads formats {FORMAT.major}.x: replace"
            " this server by the newer version."
        )
    await connection.fetch(RAISE_EPOCH)


async def read_identity(connection: Connection) -> LedgerIdentity:
    """Read the identity of the ledger."""
    ((name, generation, *_),) = await connection.fetch(LEDGER)
    return LedgerIdentity(name, generation)


async def adopt(connection: Connection, identity: LedgerIdentity) -> None:
    """Replace the identity of the ledger."""
    await connection.fetch(_ADOPT, identity.id, identity.generation)


async def _found(connection: Connection) -> Format:
    rows = await connection.fetch(LEDGER)
    if len(rows) != 1:
        raise UnfitError("The table entitlements.ledger must have one row: restore the ledger.")
    return Format(rows[0]["major"], rows[0]["minor"])


def _migrations() -> list[tuple[Format, str]]:
    """Return the script of each format that changed the tables, oldest first."""
    found: list[tuple[Format, str]] = []
    for file in (resources.files(__package__) / "sql" / "schema").iterdir():
        version = parse(file.name.removesuffix(".sql"))
        assert version is not None
        found.append((version, file.read_text("utf-8")))
    return sorted(found)
