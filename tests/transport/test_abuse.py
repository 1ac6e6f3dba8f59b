"""Closing the connection of one who floods, by the name that gRPC has for it."""

import os
import socket
from pathlib import Path

import pytest

from entitlements_server.transport.abuse import MAX_GIVEN_UP_PER_S, AbuseLimit, close_connection

DESCRIPTORS = Path("/proc/self/fd")


def open_descriptors() -> int:
    return len(os.listdir(DESCRIPTORS))  # noqa: PTH208  # counted, not looked at


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_connection_of_a_peer_is_closed_and_no_other(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family is socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        peers = [socket.create_connection((host, port)) for _ in range(2)]
        accepted = [listener.accept()[0] for _ in peers]
        mine = peers[0].getsockname()[1]
        name = f"ipv4:{host}:{mine}" if family is socket.AF_INET else f"ipv6:%5B{host}%5D:{mine}"
        assert close_connection(name)
        assert peers[0].recv(1) == b""
        accepted[1].sendall(b"x")
        assert peers[1].recv(1) == b"x"
        for one in (*peers, *accepted):
            one.close()


@pytest.mark.parametrize("peer", ["ipv4:127.0.0.1:1", "unix:/tmp/x", "", "ipv4:nowhere"])
def test_looking_for_a_peer_that_is_not_there_leaves_nothing_open(peer: str) -> None:
    before = open_descriptors()
    for _ in range(5):
        assert not close_connection(peer)
    assert open_descriptors() == before


def test_some_calls_that_are_given_up_are_no_flood() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as peer,
    ):
        accepted = listener.accept()[0]
        limit = AbuseLimit()
        name = f"ipv4:127.0.0.1:{peer.getsockname()[1]}"
        for _ in range(MAX_GIVEN_UP_PER_S):
            limit.given_up(name)
        limit.act()
        accepted.sendall(b"x")
        assert peer.recv(1) == b"x"
        limit.given_up(name)
        limit.act()
        assert peer.recv(1) == b""
        accepted.close()
