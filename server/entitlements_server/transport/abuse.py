"""Closes connections that only begin calls and cancel them ("rapid reset").

Such a call costs its sender two small frames and the server a hundred times as much. gRPC limits the
calls that are open at the same time, but not how many come and go, and it cannot close a single
connection. So the connection's socket is found by its peer among the sockets of this process and shut
down.
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
"""Calls that one connection may cancel in a second before their request is read.

Honest clients do that too, where a deadline is shorter than the round trip.
"""

_MANY = 10**9
_DESCRIPTORS = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")
_PEER = re.compile(r"ipv[46]:\[?([0-9a-fA-F:.]+)(?:%[^\]]*)?\]?:(\d+)")


class AbuseLimit:
    """Counts cancelled calls by connection and closes connections with too many. For one thread."""

    def __init__(self) -> None:
        self._given_up: Counter[str] = Counter()
        self._since = time.monotonic()
        self._log = Throttle(lines=20, seconds=10.0)

    def given_up(self, peer: str) -> None:
        """Count a call that was cancelled before its request was read."""
        self._given_up[peer] += 1

    def act(self) -> None:
        """Close connections with too many such calls. Must be called several times a second."""
        if not self._given_up:
            return
        abusers = [peer for peer, count in self._given_up.items() if count > MAX_GIVEN_UP_PER_S]
        for peer in abusers:
            closed = close_connection(peer)
            suppressed = self._log.ask("abuse")
            if suppressed is not None:
                log.warning(
                    "A connection that only begins calls and cancels them was closed."
                    if closed
                    else "A connection only begins calls and cancels them, and could not be closed.",
                    peer=peer,
                    calls=self._given_up[peer],
                    similar_lines_suppressed=suppressed,
                )
            # Its remaining calls are not counted again.
            self._given_up[peer] = -_MANY
        now = time.monotonic()
        if now - self._since >= 1:
            self._given_up.clear()
            self._since = now


def close_connection(peer: str) -> bool:
    """Shut down the connection to a peer, named as by gRPC. Returns whether there was one."""
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
                # gRPC listens on dual-stack sockets, where IPv4 addresses are mapped.
                if (host.removeprefix("::ffff:"), port) == wanted:
                    copy.shutdown(socket.SHUT_RDWR)
                    return True
            except (OSError, ValueError, AttributeError):
                continue
    return False


def _socket(descriptor: int) -> socket.socket | None:
    """Duplicate a socket's descriptor, so that it cannot be reused for something else meanwhile."""
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
