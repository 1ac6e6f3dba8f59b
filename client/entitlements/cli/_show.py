"""The output of the commands: tables and sentences for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from entitlements import Access, Account, Draw, EntitlementError, Feature, Transaction

_PIPE_COLUMNS = 200
"""Width without a terminal, so that output that is searched or stored is not cut."""

_NUMBERS = {
    "required",
    "available",
    "balance",
    "amount",
    "limit",
    "remaining",
    "cost",
    "max_cost",
}
"""The metadata of errors that are numbers. On the wire all metadata is text."""

_OF_RESPONSES = {"replayed", "covered", "refunded"}
"""What a response says of a transaction, and a history does not."""


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
        (
            each.feature,
            each.required,
            each.available,
            "allowed" if each.allowed else "denied",
            _time(each.access_until) if each.access_until else "",
        )
        for each in found
    ]
    _table(
        f"Access of {user_id}",
        ("feature", "required", "available", "access", "paid until"),
        rows,
        optional=("paid until",),
    )


def transaction(done: Transaction, *, as_json: bool) -> None:
    """Print one write."""
    if as_json:
        _json(asdict(done))
        return
    if done.covered:
        _print(
            f"{done.user_id}: nothing was charged for {done.feature}: the event {done.event_id} is "
            f"paid until {_time(done.access_until)} (transaction {done.transaction_id}).\n"
        )
        return
    uses = f", {done.quantity} uses" if done.quantity > 1 else ""
    what = {
        "CONSUME": f"charged {-done.amount} for {done.feature}{uses}",
        "REFUND": f"refunded {done.amount} of {done.refunded_transaction_id}",
        "TOP_UP": f"topped up {done.amount}",
        "ADJUSTMENT": f"balance set, changed by {done.amount:+}",
    }[done.kind]
    _print(
        f"{done.user_id}: {what}, balance {done.balance_before} → {done.balance_after} "
        f"(transaction {done.transaction_id}).{_more(done)}\n"
    )


def _more(done: Transaction) -> str:
    """Return the sentences about what not every write has."""
    more = ""
    if done.kind == "TOP_UP" and done.draws:
        more += f" They expire on {_time(done.draws[0].expire_time)}."
    if done.access_until:
        more += f" The event {done.event_id} is paid until {_time(done.access_until)}."
    if done.replayed:
        more += " This was done before with the same key. Nothing was done now."
    if done.refunded:
        more += f" Refunded since: {done.refunded}."
    return more


def account(found: Account, *, as_json: bool) -> None:
    """Print an account."""
    if as_json:
        _json(asdict(found))
        return
    available = found.available if found.available != found.balance else ""
    row = (
        found.user_id,
        found.balance,
        available,
        found.transaction_count,
        _time(found.update_time),
    )
    columns = ("account", "balance", "available", "transactions", "last changed")
    _table(None, columns, [row], optional=("available",))
    if found.next_expire_time is None:
        return
    now = datetime.now(UTC)
    expire = "expires" if found.next_expire_amount == 1 else "expire"
    _print(
        f"{found.next_expire_amount} {expire} {_ahead(found.next_expire_time - now)}, on "
        f"{_time(found.next_expire_time)}.\n"
    )
    if len(found.grants) > 1:
        rows = [
            (
                each.amount,
                f"{_time(each.expire_time)}, {_ahead(each.expire_time - now)}",
                each.grant_id,
            )
            for each in found.grants
        ]
        _table("Tokens that expire", ("tokens", "expire", "grant"), rows)


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
            each.quantity if each.quantity > 1 else "",
            _draws(each.draws),
            _time(each.access_until) if each.access_until else "",
            _labels(each.labels),
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
            "uses",
            "tokens that expire",
            "paid until",
            "labels",
            "caller",
        ],
        rows,
        optional=("refund of", "uses", "tokens that expire", "paid until", "labels", "caller"),
    )


def details(found: Transaction, *, as_json: bool) -> None:
    """Print one transaction, a line for each field that has a value."""
    if as_json:
        _json(asdict(found))
        return
    values = {
        each.name: getattr(found, each.name)
        for each in fields(found)
        if each.name not in _OF_RESPONSES
    }
    rows = [
        (name.replace("_", " "), _text(value))
        for name, value in values.items()
        if value not in ("", None, (), {})
    ]
    _table(None, ("field", "value"), rows)


def _text(value: object) -> str:
    match value:
        case datetime():
            return _time(value)
        case timedelta():
            return _period(value)
        case tuple():
            return _draws(value)
        case Mapping():
            return _labels(value)
    return str(value)


def _draws(draws: Sequence[Draw]) -> str:
    return ", ".join(
        f"{each.amount} until {_time(each.expire_time)}"
        if each.expire_time
        else f"{each.amount} others"
        for each in draws
    )


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def features(found: Sequence[Feature], *, as_json: bool) -> None:
    """Print the catalogue."""
    if as_json:
        _json([asdict(each) for each in found])
        return
    rows = [
        (
            each.feature_id,
            each.cost,
            _period(each.access) if each.access else "",
            each.title,
            each.description,
            each.use_case,
        )
        for each in found
    ]
    _table(
        "Features",
        ("feature", "cost", "paid for", "title", "description", "use case"),
        rows,
        optional=("paid for",),
    )


def _json(value: Any) -> None:
    # What another encoding lacks is escaped, so that no value is changed.
    escape = not _encoding(sys.stdout).startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=escape, default=_json_text)
    _print(f"{text}\n")


def _json_text(value: datetime | timedelta) -> str:
    """Return what JSON lacks: times as RFC 3339, periods in seconds, both as in the contract's JSON."""
    if isinstance(value, datetime):
        return value.isoformat()
    seconds, microseconds = divmod(value // timedelta(microseconds=1), 1_000_000)
    return f"{seconds}{f'.{microseconds:06}' if microseconds else ''}s"


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
        values = [row[index] for row in listed if row[index] != ""]
        number = bool(values) and all(isinstance(value, int) for value in values)
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


_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def _period(value: timedelta) -> str:
    """Return a period in words, such as `1 day 12 hours`."""
    left = round(value.total_seconds())
    words = []
    for unit, seconds in _UNITS:
        count, left = divmod(left, seconds)
        if count:
            words.append(_counted(count, unit))
    return " ".join(words) or "0 seconds"


def _ahead(value: timedelta) -> str:
    """Return about how long it is until then, rather too little: such as `in 3 days`."""
    # What was granted for 3 days a moment ago expires in 3 days.
    left = value.total_seconds() * 1.01
    for unit, seconds in _UNITS[:-1]:
        if left >= seconds:
            return f"in {_counted(int(left / seconds), unit)}"
    return "in less than a minute" if left > 0 else "now"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' * (count != 1)}"
