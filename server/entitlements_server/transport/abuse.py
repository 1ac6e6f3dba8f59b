"""Connections that do nothing but begin calls and give them up: they are closed.

Such a call costs its sender two small frames and the server a hundred times as much ("rapid reset"). gRPC bounds
the calls that are open at once and not how many come and go, and it has no call that closes one connection. So the
connection's socket is looked up by its peer among those of this process, and shut down.
"""

import os
import re
import socket
import stat
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import structlog

from entitlements_server.instrumentation.logs import Throttle

log = structlog.get_logger()

MAX_GIVEN_UP_PER_S = 500
"""Calls that one connection may give up in a second before their request is read. An honest client does that now
and then, where a deadline is shorter than the way.
"""

_MANY = 10**9
_DESCRIPTORS = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")
_PEER = re.compile(r"ipv[46]:\[?([0-9a-fA-F:.]+)(?:%[^\]]*)?\]?:(\d+)")


class AbuseGuard:
    """Counts calls that are given up, by connection, and closes those of too many. For one thread."""

    def __init__(self) -> None:
        self._given_up: Counter[str] = Counter()
        self._since = time.monotonic()
        self._log = Throttle(lines=20, seconds=10.0)

    def given_up(self, peer: str) -> None:
        """Take note of a call that was given up before its request was read."""
        self._given_up[peer] += 1

    def act(self) -> None:
        """Close the connections of too many such calls. Call it some times a second, at least."""
        if not self._given_up:
            return
        abusers = [peer for peer, count in self._given_up.items() if count > MAX_GIVEN_UP_PER_S]
        for peer in abusers:
            closed = close_connection(peer)
            kept_back = self._log.ask("abuse")
            if kept_back is not None:
                log.warning(
                    "A connection that begins calls only to give them up was closed."
                    if closed
                    else "A connection begins calls only to give them up, and could not be closed.",
                    peer=peer,
                    calls=self._given_up[peer],
                    similar_lines_kept_back=kept_back,
                )
            # What it has left behind does not count again.
            self._given_up[peer] = -_MANY
        now = time.monotonic()
        if now - self._since >= 1:
            self._given_up.clear()
            self._since = now


def close_connection(peer: str) -> bool:
    """Shut down the connection to a peer, named as gRPC does; returns whether there was one."""
    found = _PEER.fullmatch(unquote(peer))
    if found is None:
        return False
    wanted = (found[1], int(found[2]))
    for descriptor in _DESCRIPTORS.iterdir():
        copy = _socket(int(descriptor.name))
        if copy is None:
            continue
        with copy:
            try:
                host, port = copy.getpeername()[:2]
                # gRPC listens on sockets of both versions, where IPv4 is mapped.
                if (host.removeprefix("::ffff:"), port) == wanted:
                    copy.shutdown(socket.SHUT_RDWR)
                    return True
            except (OSError, ValueError, AttributeError):
                continue
    return False


def _socket(descriptor: int) -> socket.socket | None:
    """Return a descriptor of our own for a socket: what it stands for cannot change any more."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        if stat.S_ISSOCK(os.fstat(copy).st_mode):
            return socket.socket(fileno=copy)
    except OSError:
        pass
    os.close(copy)
    return None
