"""A server that listens on a Unix domain socket."""

import socket
from pathlib import Path

import pytest

from entitlements import EntitlementClient
from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from entitlements_server.transport.address import ListenError
from support.rpc import serving
from support.transports import transport

__all__ = ["transport"]

pytestmark = pytest.mark.usefixtures("transport")


async def test_it_is_called_by_its_path_and_gone_with_the_server(tmp_path: Path) -> None:
    """Without TLS or callers, as no other machine can reach it."""
    path = tmp_path / "server.sock"
    async with serving(listen=f"unix:{path}") as api:
        await api.TopUp(user_id="ada", amount=3)
        assert await api.balance("ada") == 3
        assert path.is_socket()
    assert not path.exists()


async def test_the_client_takes_the_same_address_and_sends_its_token(tmp_path: Path) -> None:
    settings = Settings(listen=f"unix:{tmp_path}/server.sock")
    async with running(settings) as server:
        EntitlementClient(server.address, token="s3cret").close()
        assert server.address == settings.listen


async def test_a_socket_that_a_killed_server_left_is_not_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()
    async with serving(listen=f"unix:{path}") as api:
        assert await api.balance("ada") == 0


async def test_a_socket_that_another_server_listens_on_is_left_alone(tmp_path: Path) -> None:
    """gRPC would put its own there, unasked."""
    address = f"unix:{tmp_path}/server.sock"
    async with serving(listen=address) as api:
        with pytest.raises(ListenError, match="another server does"):
            async with running(Settings(listen=address)):
                pytest.fail("started")
        assert await api.balance("ada") == 0


async def test_what_is_no_socket_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ListenError, match="something else than a socket"):
        async with running(Settings(listen=f"unix:{path}")):
            pytest.fail("started")
    assert path.read_text() == "mine"


async def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="see that the folder exists"):
        async with running(Settings(listen=f"unix:{tmp_path}/nowhere/server.sock")):
            pytest.fail("started")
