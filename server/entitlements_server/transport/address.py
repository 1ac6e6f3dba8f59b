"""Where the server may listen."""

from ipaddress import ip_address

from entitlements_server.config.errors import ConfigurationError


class ListenError(ConfigurationError):
    """The address cannot be listened on; the message says what to do."""


def taken(address: str) -> ListenError:
    """Return what is raised where gRPC could not listen."""
    return ListenError(
        f"The address {address} cannot be listened on: another server has it, or it is not an"
        " address of this machine. Stop the other one, or choose another with --listen."
    )


def require_safe(address: str, *, tls: bool, callers: bool) -> None:
    """Refuse to be reachable from other machines without both TLS and callers.

    Args:
        address: Where to listen, as HOST:PORT.
        tls: Whether there is TLS.
        callers: Whether there are callers.

    Raises:
        ListenError: It would be.
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
            f"{address} can be reached from other machines and there is no"
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
