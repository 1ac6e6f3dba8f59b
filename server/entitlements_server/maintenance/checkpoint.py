"""Checkpoints: what a ledger contained at a moment, to be signed and kept elsewhere.

A checkpoint is two files. `FILE` is the header, a few lines of JSON: this is what is signed.
`FILE.heads` has the length and head of every history (`heads.py`); the header has its Merkle root, so
the signature covers it as well. See docs/proof.md.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec
from msgspec import Struct

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.ledger.values import Account
from entitlements_server.maintenance.comparison import Comparison
from entitlements_server.maintenance.heads import Entry, Heads, HeadsWriter, user_digest
from entitlements_server.maintenance.report import Report, report
from entitlements_server.maintenance.verify import NO_WITNESS, Witness
from entitlements_server.stores.interface import Finding, LedgerIdentity, Progress, Store, silent

FORM = "entitlements-checkpoint/1"
"""The form of the header and the side file."""

_MODE = 0o600


class CheckpointError(ConfigurationError):
    """A checkpoint cannot be read or written; the message says why."""


class Header(Struct, frozen=True, kw_only=True):
    """The header of a checkpoint.

    Attributes:
        form: FORM.
        ledger_id: The id of the ledger.
        generation: The generation of the ledger.
        create_time: When the checkpoint was begun, RFC 3339 UTC.
        accounts: Number of accounts, and of entries in the side file.
        transactions: Number of transactions.
        tokens: Sum of all balances.
        root: Merkle root of the side file, 64 hexadecimal digits.
        previous: SHA-256 of the header before it, likewise; empty in the first.
    """

    form: str
    ledger_id: str
    generation: int
    create_time: str
    accounts: int
    transactions: int
    tokens: int
    root: str
    previous: str = ""

    @property
    def identity(self) -> LedgerIdentity:
        """The identity of the ledger."""
        return LedgerIdentity(self.ledger_id, self.generation)


_decode = msgspec.json.Decoder(Header).decode


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        header: The header.
        digest: SHA-256 of the header's file, 64 hexadecimal digits.
        heads: The side file.
    """

    header: Header
    digest: str
    heads: Heads

    @classmethod
    @contextmanager
    def open(cls, file: Path) -> Iterator[Self]:
        """Read a checkpoint while the block runs. The header and the side file belong together.

        Args:
            file: The header's file.

        Raises:
            CheckpointError: It cannot be read, or the side file is not the one that it names.
        """
        try:
            text = file.read_bytes()
            header = _decode(text)
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from error
        except msgspec.DecodeError as error:
            raise CheckpointError(f"{file} is not the header of a checkpoint.") from error
        if header.form != FORM:
            raise CheckpointError(
                f"{file} has the form '{header.form}' and this version reads {FORM}: use the version"
                " that wrote it."
            )
        with _heads(heads_file(file), header) as heads:
            yield cls(header, sha256(text).hexdigest(), heads)

    def as_json(self) -> dict[str, Any]:
        """Return the header and its digest as JSON values."""
        return {"checkpoint": msgspec.to_builtins(self.header), "sha256": self.digest}

    def comparison(self, identity: LedgerIdentity) -> Comparison:
        """Return what compares a ledger of this identity with the checkpoint."""
        return Comparison(self.header.identity, self.header.tokens, self.heads, identity)


def _heads(file: Path, header: Header) -> Heads:
    """Open the side file of a header."""
    try:
        heads = Heads(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not the side file of a checkpoint: {error}.") from error
    lengths = sum(one.length for one in heads)
    totals = (len(heads), lengths, heads.root().hex())
    if totals != (header.accounts, header.transactions, header.root):
        heads.close()
        raise CheckpointError(
            f"{file} is not the side file of that checkpoint: one of them was changed, or it belongs to"
            " another."
        )
    return heads


def heads_file(file: Path) -> Path:
    """Return the side file of a header's file."""
    return file.with_name(file.name + ".heads")


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of taking a checkpoint.

    Attributes:
        report: What verify found.
        header: The header, if nothing was found; otherwise nothing was written.
        digest: SHA-256 of the header's file, 64 hexadecimal digits.
    """

    report: Report
    header: Header | None = None
    digest: str = ""


async def take(
    store: Store,
    file: Path,
    *,
    previous: Checkpoint | None = None,
    progress: Progress = silent,
) -> Taken:
    """Verify a ledger and write a checkpoint of it. Both files are on disk on return.

    Args:
        store: The ledger. If it is in use, each history is as it was when its account was read.
        file: The header's file, which must not exist. Nothing is written if verify finds something.
        previous: The checkpoint before. The ledger must still contain what it says.
        progress: Reports transactions.

    Raises:
        CheckpointError: A file exists or cannot be written.
    """
    _require_free(file)
    create_time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    identity = await store.identity()
    comparison = previous.comparison(identity) if previous else NO_WITNESS
    try:
        with _recording(file.parent, identity, comparison) as recording:
            found = await report(store, progress, recording)
            if found.findings:
                return Taken(found)
            with _new_file(heads_file(file)) as side:
                root = recording.heads.write(side)
            header = Header(
                form=FORM,
                ledger_id=identity.id,
                generation=identity.generation,
                create_time=create_time,
                accounts=recording.accounts,
                transactions=recording.transactions,
                tokens=recording.tokens,
                root=root.hex(),
                previous=previous.digest if previous else "",
            )
            text = msgspec.json.format(msgspec.json.encode(header), indent=2) + b"\n"
            try:
                # The header last: it is what makes the files a checkpoint.
                with _new_file(file) as opened:
                    opened.write(text)
            except BaseException:
                heads_file(file).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CheckpointError(f"{file} cannot be written: {error.strerror}.") from error
    return Taken(found, header, sha256(text).hexdigest())


def _require_free(file: Path) -> None:
    """Check that a checkpoint can be written, before the ledger is read."""
    try:
        for one in (file, heads_file(file)):
            if one.exists() or one.is_symlink():
                raise CheckpointError(f"{one} already exists: choose another name.")
        if not file.parent.is_dir():
            raise CheckpointError(f"There is no folder {file.parent}: make it first.")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be written: {error}.") from error


class _Recording(Witness):
    """Records the head of every history, while another witness compares it."""

    def __init__(self, heads: HeadsWriter, identity: LedgerIdentity, inner: Witness) -> None:
        self.heads = heads
        self.accounts = self.transactions = self.tokens = 0
        self._ledger_id = identity.id
        self._inner = inner

    def begin(self, account: Account) -> int:
        """See Witness."""
        return self._inner.begin(account)

    def compare(self, account: Account) -> Iterator[str]:
        """See Witness."""
        return self._inner.compare(account)

    def end(self, account: Account) -> Iterator[str]:
        """See Witness."""
        self.accounts += 1
        self.transactions += account.transaction_count
        self.tokens += account.balance
        user = user_digest(self._ledger_id, account.user_id)
        self.heads.add(Entry(user, account.transaction_count, account.head))
        return self._inner.end(account)

    def finish(self) -> Iterator[Finding]:
        """See Witness."""
        return self._inner.finish()


@contextmanager
def _recording(folder: Path, identity: LedgerIdentity, inner: Witness) -> Iterator[_Recording]:
    heads = HeadsWriter(folder)
    try:
        yield _Recording(heads, identity, inner)
    finally:
        heads.close()


@contextmanager
def _new_file(file: Path) -> Iterator[BinaryIO]:
    """Write a new file. It is on disk at the end; after an error there is none."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with os.fdopen(handle, "wb") as new:
            yield new
            new.flush()
            os.fsync(new.fileno())
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
