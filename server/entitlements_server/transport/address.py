"""Which addresses the server may listen on."""

import socket
import stat
from ipaddress import ip_address
from pathlib import Path

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.settings import UNIX


class ListenError(ConfigurationError):
    """The server cannot listen on the address; the message says what to do."""


def taken(address: str) -> ListenError:
    """Return the error for an address that gRPC could not listen on."""
    if address.startswith(UNIX):
        return ListenError(
            f"The server cannot listen on {address}: see that the folder exists and that this user may"
            " write to it, or choose another address with --listen."
        )
    return ListenError(
        f"The server cannot listen on {address}: another server uses it, or it is not an address"
        " of this machine. Stop the other server, or choose another address with --listen."
    )


def listening(address: str, port: int) -> str:
    """Return the address as clients call it, with the port that gRPC listens on."""
    return address if address.startswith(UNIX) else f"{address.rpartition(':')[0]}:{port}"


def require_free(address: str) -> None:
    """Require that nothing else is where a Unix domain socket is to be. gRPC would replace it unasked.

    A socket that a killed server has left is not in the way.

    Raises:
        ListenError: Another server listens there, or it is something else than a socket.
    """
    if not address.startswith(UNIX):
        return
    path = Path(address.removeprefix(UNIX))
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return
    if not is_socket:
        raise ListenError(
            f"The server cannot listen on {address}: there is something else than a socket, which was"
            " left as it is. Choose another address with --listen."
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise taken(address) from error
    raise ListenError(
        f"The server cannot listen on {address}: another server does. Stop it, or choose another"
        " address with --listen."
    )


def require_safe(address: str, *, tls: bool, callers: bool) -> None:
    """Require TLS and callers for a server that other machines can reach.

    Args:
        address: Where to listen. Who may connect to a Unix domain socket is up to its folder.
        tls: Whether there is TLS.
        callers: Whether there are callers.

    Raises:
        ListenError: One of them is missing.
    """
    if address.startswith(UNIX) or _is_loopback(address.rpartition(":")[0].strip("[]")):
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
