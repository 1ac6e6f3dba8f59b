"""From options to a client, and from errors to an exit status."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from entitlements import (
    AccessDeniedError,
    EntitlementClient,
    EntitlementError,
    InvalidRequestError,
    ServiceError,
    Tls,
)
from entitlements.cli import _show

DENIED = 1
FAILED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to reach the service: the options before the command."""

    address: str
    token: str | None = field(repr=False)
    tls: bool
    root_certificates: Path | None
    client_certificate: Path | None
    client_key: Path | None
    deadline_s: float

    @property
    def uses_tls(self) -> bool:
        """Whether the connection uses TLS: one of its files implies it."""
        return self.tls or any((self.root_certificates, self.client_certificate, self.client_key))

    def client(self) -> EntitlementClient:
        """Build the client.

        Raises:
            ValueError: An option is not valid.
            OSError: A certificate file cannot be read.
        """
        tls = None
        if self.uses_tls:
            tls = Tls(
                root_certificates=self.root_certificates,
                client_certificate=self.client_certificate,
                client_key=self.client_key,
            )
        return EntitlementClient(
            self.address, tls=tls, token=self.token or None, deadline_s=self.deadline_s
        )


@contextmanager
def session(context: typer.Context, *, as_json: bool) -> Iterator[EntitlementClient]:
    """Provide a client. Its errors become a message and an exit status.

    Raises:
        typer.Exit: 1 denied, 2 failed.
    """
    options: Options = context.obj
    try:
        client = options.client()
    except (ValueError, OSError) as error:
        _show.say(str(error))
        raise typer.Exit(FAILED) from None
    try:
        with client:
            yield client
    except AccessDeniedError as denied:
        _show.error(denied, str(denied), as_json=as_json)
        raise typer.Exit(DENIED) from None
    except EntitlementError as error:
        _show.error(error, _sentence(error, options), as_json=as_json)
        raise typer.Exit(FAILED) from None


def _sentence(error: EntitlementError, options: Options) -> str:
    message = str(error)
    if isinstance(error, InvalidRequestError) and error.field and error.field not in message:
        message = f"{error.field}: {message}"
    if isinstance(error, ServiceError):
        # A server with TLS and a client without it, or the reverse, only see a connection that ends.
        how = "with TLS" if options.uses_tls else "without TLS"
        message = f"{message} The address is {options.address}, {how}."
        if error.idempotency_key:
            # It is not known whether it took effect. With this key it cannot take effect twice.
            message = f"{message} To retry safely: --idempotency-key {error.idempotency_key}"
    return message
