"""Reserves the address that the workers share."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from entitlements_server.transport.address import taken


@contextmanager
def reserved(address: str) -> Iterator[str]:
    """Keep an address for processes of ours while the block runs. Yields it with the actual port.

    The sockets here are bound and do not listen, so no connection comes to them. While they are bound, other
    servers find the port taken, even if all workers have ended; workers, which set SO_REUSEPORT, do not.

    Args:
        address: HOST:PORT; port 0: any free port.

    Raises:
        ListenError: It is not free, or not an address of this machine.
    """
    name, _, text = address.rpartition(":")
    port = int(text)
    with ExitStack() as stack:
        try:
            found = socket.getaddrinfo(
                name.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, (host, _, *rest) in dict.fromkeys(found):
                kept = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                if family == socket.AF_INET6:
                    kept.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                # For a port on which connections have ended a moment ago.
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # The same port for all addresses of a name.
                kept.bind((host, port, *rest))
                port = kept.getsockname()[1]
                # Not before it is bound: it must have been free.
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            raise taken(address) from error
        yield f"{name}:{port}"
