"""Which addresses the server may listen on."""

from ipaddress import ip_address

from entitlements_server.config.errors import ConfigurationError


class ListenError(ConfigurationError):
    """The server cannot listen on the address; the message says what to do."""


def taken(address: str) -> ListenError:
    """Return the error for an address that gRPC could not listen on."""
    return ListenError(
        f"The server cannot listen on {address}: another server uses it, or it is not an address"
        " of this machine. Stop the other server, or choose another address with --listen."
    )


def require_safe(address: str, *, tls: bool, callers: bool) -> None:
    """Require TLS and callers for a server that other machines can reach.

    Args:
        address: Where to listen, as HOST:PORT.
        tls: Whether there is TLS.
        callers: Whether there are callers.

    Raises:
        ListenError: One of them is missing.
    """
    if _is_loopback(address.rpartition(":")[0].strip("[]")):
        return
    missing = [
        what
        for what, there in (
            ("TLS (--tls-certificate and --tls-key)", tls),
            ("callers ([[callers]] in the file that --config names)", callers),
        )
        if not there
    ]
    if missing:
        raise ListenError(
            f"Other machines can reach {address}, without"
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
