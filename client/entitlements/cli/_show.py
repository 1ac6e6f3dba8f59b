"""The output of the commands: tables and sentences for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from entitlements import Access, Account, EntitlementError, Feature, Transaction

_PIPE_COLUMNS = 200
"""Width without a terminal, so that output that is searched or stored is not cut."""

_NUMBERS = {"required", "available", "balance", "amount", "limit", "remaining"}
"""The metadata of errors that are numbers of tokens. On the wire all metadata is text."""


def error(failure: EntitlementError, sentence: str, *, as_json: bool) -> None:
    """Print why a call was denied or failed: a sentence on stderr, or JSON on stdout."""
    if not as_json:
        say(sentence)
        return
    _json(
        {
            "error": {
                "type": type(failure).__name__,
                "reason": failure.reason,
                "message": str(failure),
                "metadata": {
                    key: int(value) if key in _NUMBERS else value
                    for key, value in failure.metadata.items()
                },
                "idempotency_key": failure.idempotency_key,
                "retry_after_s": failure.retry_after_s,
            }
        }
    )


def say(sentence: str) -> None:
    """Print a sentence on stderr."""
    if _write(sys.stderr, f"{sentence}\n") is not None:
        # The exit status still says it.
        sys.stderr = _nowhere()


def accesses(user_id: str, found: Sequence[Access], *, as_json: bool) -> None:
    """Print the access of a user."""
    if as_json:
        _json([asdict(each) for each in found])
        return
    rows = [
        (each.feature, each.required, each.available, "allowed" if each.allowed else "denied")
        for each in found
    ]
    _table(f"Access of {user_id}", ("feature", "required", "available", "access"), rows)


def transaction(done: Transaction, *, as_json: bool) -> None:
    """Print one write."""
    if as_json:
        _json(asdict(done))
        return
    what = {
        "CONSUME": f"charged {-done.amount} for {done.feature}",
        "REFUND": f"refunded {done.amount} of {done.refunded_transaction_id}",
        "TOP_UP": f"topped up {done.amount}",
        "ADJUSTMENT": f"balance set, changed by {done.amount:+}",
    }[done.kind]
    again = " This was done before with the same key. Nothing was done now." * done.replayed
    _print(
        f"{done.user_id}: {what}, balance {done.balance_before} → {done.balance_after} "
        f"(transaction {done.transaction_id}).{again}\n"
    )


def account(found: Account, *, as_json: bool) -> None:
    """Print an account."""
    if as_json:
        _json(asdict(found))
        return
    rows = [(found.user_id, found.balance, found.transaction_count, _time(found.update_time))]
    _table(None, ("account", "balance", "transactions", "last changed"), rows)


def history(user_id: str, found: Sequence[Transaction], *, as_json: bool) -> None:
    """Print transactions, newest first."""
    if as_json:
        _json([asdict(each) for each in found])
        return
    rows = [
        (
            each.sequence,
            _time(each.create_time),
            each.kind,
            each.status,
            f"{each.amount:+}" if each.amount else "0",
            each.balance_after,
            each.feature,
            each.event_id or each.reason,
            each.transaction_id,
            each.refunded_transaction_id,
            each.caller,
        )
        for each in found
    ]
    _table(
        f"History of {user_id}",
        [
            "#",
            "time",
            "kind",
            "status",
            "amount",
            "balance",
            "feature",
            "event/reason",
            "transaction",
            "refund of",
            "caller",
        ],
        rows,
        optional=("refund of", "caller"),
    )


def details(found: Transaction, *, as_json: bool) -> None:
    """Print one transaction, a line for each field that has a value."""
    if as_json:
        _json(asdict(found))
        return
    values = asdict(found) | {"create_time": _time(found.create_time)}
    del values["replayed"]  # It belongs to the response to a write.
    rows = [(name.replace("_", " "), str(value)) for name, value in values.items() if value != ""]
    _table(None, ("field", "value"), rows)


def features(found: Sequence[Feature], *, as_json: bool) -> None:
    """Print the catalogue."""
    if as_json:
        _json([asdict(each) for each in found])
        return
    rows = [
        (each.feature_id, each.cost, each.title, each.description, each.use_case) for each in found
    ]
    _table("Features", ("feature", "cost", "title", "description", "use case"), rows)


def _json(value: Any) -> None:
    # Times as RFC 3339. They are the only values here that JSON lacks. What another encoding lacks is
    # escaped, so that no value is changed.
    escape = not _encoding(sys.stdout).startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=escape, default=datetime.isoformat)
    _print(f"{text}\n")


def _table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    optional: Collection[str] = (),
) -> None:
    """Print a table. An optional column is left out if no row has a value in it."""
    listed = list(rows)
    shown = [
        index
        for index, column in enumerate(columns)
        if column not in optional or any(row[index] for row in listed)
    ]
    # As Text, so that square brackets in an id are not read as a style.
    table = Table(title=Text(title, style="italic") if title else None, title_justify="left")
    for index in shown:
        number = all(isinstance(row[index], int) for row in listed)
        table.add_column(columns[index], justify="right" if number else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(str(row[index])) for index in shown))
    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)
    # Rendered first and written after that, because only writing may fail.
    with console.capture() as rendered:
        console.print(table)
    _print(rendered.get())


def _print(text: str) -> None:
    """Write to stdout. If that fails, what the command did is done all the same."""
    problem = _write(sys.stdout, text)
    if problem is not None:
        # Otherwise the interpreter fails on the rest when it ends, with an exit status of its own.
        sys.stdout = _nowhere()
        say(f"The command was done, and its output could not be written: {problem.strerror}.")


def _write(stream: TextIO, text: str) -> OSError | None:
    """Write a text. Characters that the stream cannot encode are replaced. Returns what failed."""
    encoding = _encoding(stream)
    with suppress(LookupError):
        text = text.encode(encoding, "replace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        return error
    return None


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - open until the end


def _encoding(stream: TextIO) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()


def _time(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "never"
