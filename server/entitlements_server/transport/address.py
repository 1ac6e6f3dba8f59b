"""Where the server may listen."""

from collections.abc import Sequence
from ipaddress import ip_address

from entitlements_server.callers import Caller
from entitlements_server.settings import Settings


class ListenError(Exception):
    """The address cannot be listened on; the message says what to do."""


def taken(address: str) -> ListenError:
    """Return what is raised where gRPC could not listen."""
    return ListenError(
        f"The address {address} cannot be listened on: another server has it, or it is not an"
        " address of this machine. Stop the other one, or choose another with --listen."
    )


def require_safe(settings: Settings, callers: Sequence[Caller]) -> None:
    """Refuse to be reachable from elsewhere without both TLS and callers.

    Raises:
        ListenError: It would be, and `insecure` does not say that it is meant.
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
            f"{settings.listen} can be reached from other machines and there is no"
            f" {' and no '.join(missing)}: add that, listen on 127.0.0.1, or say --insecure if it"
            " is meant."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
