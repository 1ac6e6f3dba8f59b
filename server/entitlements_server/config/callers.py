"""Who may call: callers, their credentials and their roles, as the configuration file lists them."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.tables import Table, read_table
from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.limits import MAX_ID_BYTES
from entitlements_server.ledger.validation import check_id

MAX_CALLERS = 1000
"""Most callers that a configuration may list."""

_MAX_TOKENS = 8
_TOKEN_BYTES = 32
_Hash = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")]


class Role(StrEnum):
    """What a caller may do."""

    READER = "reader"
    CHARGER = "charger"
    FUNDER = "funder"


class CallersError(ConfigurationError):
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
        rate: Calls a second; None: what the settings say; 0: unlimited.
        burst: Calls at once; None: what the settings say; 0: those of one second.
    """

    name: str
    roles: frozenset[Role]
    token_hashes: tuple[bytes, ...] = ()
    certificate: str = ""
    expires_s: float | None = None
    rate: float | None = None
    burst: int | None = None


def _id(value: str) -> str:
    try:
        check_id("name", value)
    except InvalidFieldError as error:
        raise ValueError from error
    return value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class CallerTable(Table):
    """A caller in the words of the file."""

    name: Annotated[str, AfterValidator(_id)] = Field(
        description=f"be text of 1 to {MAX_ID_BYTES} bytes without spaces"
    )
    roles: frozenset[Annotated[Role, Field(strict=False)]] = Field(
        strict=False,
        min_length=1,
        description=f"list at least one of {', '.join(Role)}, and nothing else",
    )
    token_sha256: Annotated[tuple[_Hash, ...], BeforeValidator(_listed)] = Field(
        (),
        strict=False,
        min_length=1,
        max_length=_MAX_TOKENS,
        description="be the 64 hexadecimal digits that `entitlements-server token new` shows, or a"
        f" list of up to {_MAX_TOKENS} such",
    )
    certificate: str = Field("", min_length=1, description="be text")
    expires: datetime | None = Field(
        None, description="be a date and time, for example 2027-01-31T00:00:00Z"
    )
    rate: float | None = Field(None, ge=0, le=1e9, description="be a number, 0 to 10^9")
    burst: int | None = Field(None, ge=0, le=10**9, description="be a whole number, 0 to 10^9")

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if not self.token_sha256 and not self.certificate:
            raise ValueError(
                f"give '{self.name}' a token_sha256 (`entitlements-server token new` makes one) or a"
                " certificate."
            )
        return self

    def caller(self) -> Caller:
        """Return the caller. A time without a zone is UTC."""
        expires = self.expires
        if expires is not None and expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        return Caller(
            name=self.name,
            roles=self.roles,
            token_hashes=tuple(
                bytes.fromhex(one.removeprefix("sha256:")) for one in self.token_sha256
            ),
            certificate=self.certificate,
            expires_s=expires.timestamp() if expires is not None else None,
            rate=self.rate,
            burst=self.burst,
        )


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
    callers = tuple(
        read_table(CallerTable, "callers", table, f"caller number {number}:", CallersError).caller()
        for number, table in enumerate(tables, start=1)
    )
    _require_once("name", [caller.name for caller in callers])
    _require_once("token", [one for caller in callers for one in caller.token_hashes])
    _require_once("certificate", [one.certificate for one in callers if one.certificate])
    return callers


def require_possible(callers: Sequence[Caller], *, client_certificates: bool) -> None:
    """Require that each caller can show its credentials to this server.

    Args:
        callers: The callers.
        client_certificates: Whether clients show certificates: `tls_client_ca` is set.

    Raises:
        CallersError: One of them never could.
    """
    for caller in callers:
        if caller.certificate and not client_certificates:
            raise CallersError(
                f"the caller '{caller.name}' has a certificate, and nobody can show one: set"
                " tls_client_ca to the authority of the clients' certificates (with tls_certificate"
                " and tls_key), or give the caller a token_sha256 instead."
            )


def expired(callers: Sequence[Caller], now_s: float) -> Iterator[str]:
    """Return a sentence for each caller whose credentials are void already."""
    for caller in callers:
        if caller.expires_s is not None and caller.expires_s <= now_s:
            yield (
                f"The credentials of the caller '{caller.name}' expired at"
                f" {datetime.fromtimestamp(caller.expires_s, UTC):%Y-%m-%dT%H:%M:%SZ}, so it cannot"
                " call: change its 'expires', or remove it."
            )


def _require_once(what: str, values: Sequence[Any]) -> None:
    if len(set(values)) < len(values):
        raise CallersError(f"two callers have the same {what}: each needs its own.")
