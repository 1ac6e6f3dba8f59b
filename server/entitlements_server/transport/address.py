"""Which addresses the server may listen on."""

from collections.abc import Sequence
from ipaddress import ip_address

from entitlements_server.callers import Caller
from entitlements_server.settings import Settings


class ListenError(Exception):
    """The server cannot listen on the address; the message says what to do."""


def taken(address: str) -> ListenError:
    """Return the error for an address that gRPC could not listen on."""
    return ListenError(
        f"The server cannot listen on {address}: another server uses it, or it is not an address"
        " of this machine. Stop the other server, or choose another address with --listen."
    )


def require_safe(settings: Settings, callers: Sequence[Caller]) -> None:
    """Require TLS and callers for a server that other machines can reach.

    Raises:
        ListenError: One of them is missing and `insecure` is not set.
    """
    if settings.insecure or _is_loopback(settings.listen.rpartition(":")[0].strip("[]")):
        return
    missing = [
        what
        for what, there in (
            ("TLS (--tls-certificate and --tls-key)", settings.tls_certificate is not None),
            ("callers ([[callers]] in the file that --config names)", bool(callers)),
        )
        if not there
    ]
    if missing:
        raise ListenError(
            f"Other machines can reach {settings.listen}, without"
            f" {' and without '.join(missing)}: add what is missing, listen on 127.0.0.1, or add"
            " --insecure if this is intended."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
