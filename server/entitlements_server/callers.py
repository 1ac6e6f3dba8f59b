"""Who may call: callers, their credentials and their roles, as the configuration file lists them."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.validation import check_id

MAX_CALLERS = 1000
"""Most callers that a configuration may list."""

_MAX_TOKENS = 8
_TOKEN_BYTES = 32
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class Role(StrEnum):
    """What a caller may do."""

    READER = "reader"
    CHARGER = "charger"
    FUNDER = "funder"


class CallersError(Exception):
    """The list of callers is wrong; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Someone who may call.

    Attributes:
        name: Recorded on each transaction that the caller makes.
        roles: What the caller may do.
        token_hashes: SHA-256 of each bearer token that the caller may show.
        certificate: The identity in its client certificate, or empty: a subject alternative name,
            or the common name of a certificate without any.
        expires_s: From when on its credentials are void, seconds since 1970 UTC; None: never.
        rate: Calls a second; None: what the settings say; 0: any.
        burst: Calls at once; None: what the settings say; 0: those of one second.
    """

    name: str
    roles: frozenset[Role]
    token_hashes: tuple[bytes, ...] = ()
    certificate: str = ""
    expires_s: float | None = None
    rate: float | None = None
    burst: int | None = None


def new_token() -> str:
    """Make a bearer token of 256 random bits."""
    return "ent_" + secrets.token_urlsafe(_TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """Return the SHA-256 under which a token is stored. A token is random: it needs no salt."""
    return sha256(token.encode()).digest()


def read_callers(tables: Any) -> tuple[Caller, ...]:
    """Read the `[[callers]]` tables of the configuration file.

    Raises:
        CallersError: Something in them is wrong.
    """
    if not isinstance(tables, list) or len(tables) > MAX_CALLERS:
        raise CallersError(f"write callers as [[callers]] tables, at most {MAX_CALLERS}.")
    callers = tuple(_caller(number, table) for number, table in enumerate(tables, start=1))
    _require_once("name", [caller.name for caller in callers])
    _require_once("token", [one for caller in callers for one in caller.token_hashes])
    _require_once("certificate", [one.certificate for one in callers if one.certificate])
    return callers


def _caller(number: int, table: Any) -> Caller:
    where = f"caller number {number}:"
    if not isinstance(table, dict):
        raise CallersError(f"{where} write it as a [[callers]] table.")
    unknown = sorted(set(table) - set(_READERS))
    if unknown:
        raise CallersError(f"{where} '{unknown[0]}' is not known; there are {', '.join(_READERS)}.")
    for name in ("name", "roles"):
        if name not in table:
            raise CallersError(f"{where} '{name}' is missing.")
    try:
        values = {_READERS[name][0]: _READERS[name][1](value) for name, value in table.items()}
    except (ValueError, InvalidFieldError) as error:
        raise CallersError(f"{where} {error}") from error
    caller = Caller(**values)
    if not caller.token_hashes and not caller.certificate:
        raise CallersError(
            f"{where} give '{caller.name}' a token_sha256 (`entitlements-server token new` makes"
            " one) or a certificate."
        )
    return caller


def _name(value: Any) -> str:
    check_id("name", _text("name", value))
    return str(value)


def _roles(value: Any) -> frozenset[Role]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"'roles' must list at least one of {', '.join(Role)}.")
    for role in value:
        if role not in tuple(Role):
            raise ValueError(f"'roles' has '{role}'; there are {', '.join(Role)}.")
    return frozenset(Role(role) for role in value)


def _token_hashes(value: Any) -> tuple[bytes, ...]:
    values = value if isinstance(value, list) else [value]
    matches = [_HASH.fullmatch(one) if isinstance(one, str) else None for one in values]
    if not 1 <= len(values) <= _MAX_TOKENS or not all(matches):
        # The value is not repeated: someone may have put a token there.
        raise ValueError(
            f"'token_sha256' must be the 64 hexadecimal digits that `entitlements-server token new`"
            f" shows, or a list of up to {_MAX_TOKENS} such."
        )
    return tuple(bytes.fromhex(match[1]) for match in matches if match)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"'{name}' must be text.")
    return value


def _expires(value: Any) -> float:
    if not isinstance(value, datetime):
        raise ValueError("'expires' must be a date and time, for example 2027-01-31T00:00:00Z.")  # noqa: TRY004  # all are told alike
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def _number(name: str, value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1e9:  # noqa: PLR2004  # as in the settings
        raise ValueError(f"'{name}' must be a number, 0 to 10^9.")
    return value


_READERS: dict[str, tuple[str, Any]] = {
    "name": ("name", _name),
    "roles": ("roles", _roles),
    "token_sha256": ("token_hashes", _token_hashes),
    "certificate": ("certificate", lambda value: _text("certificate", value)),
    "expires": ("expires_s", _expires),
    "rate": ("rate", lambda value: float(_number("rate", value))),
    "burst": ("burst", lambda value: int(_number("burst", value))),
}


def _require_once(what: str, values: Sequence[Any]) -> None:
    if len(set(values)) < len(values):
        raise CallersError(f"two callers have the same {what}: each needs its own.")
