"""Where the service is, and where a token may go."""

from typing import Any

import pytest

from entitlements import AsyncEntitlementClient, EntitlementClient, Tls
from entitlements._address import is_local, may_be_several, target


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("entitlements.internal:443", "entitlements.internal:443"),
        ("[::1]:50051", "[::1]:50051"),
        ("10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["10.0.0.1:1", " 10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("[fd00::1]:1,[fd00::2]:1", "ipv6:[fd00::1]:1,[fd00::2]:1"),
        ("dns:///entitlements.internal:443", "dns:///entitlements.internal:443"),
        ("unix:/run/entitlements.sock", "unix:/run/entitlements.sock"),
    ],
)
def test_an_address_becomes_a_target(address: str | list[str], expected: str) -> None:
    """As people write it, one or several."""
    assert target(address) == expected


@pytest.mark.parametrize("address", ["", "localhost", "localhost:http", ":50051", []])
def test_an_address_without_host_or_port_is_refused(address: str | list[str]) -> None:
    """With a sentence that shows how it is written, or says what must be together."""
    with pytest.raises(ValueError, match=r"must be (host:port|all IPv4)"):
        EntitlementClient(address)


@pytest.mark.parametrize("address", ["a.example:1,b.example:1", "10.0.0.1:1,[::1]:1"])
def test_several_addresses_must_be_of_one_kind(address: str) -> None:
    """gRPC has no target for several host names; one name with several addresses is the way."""
    with pytest.raises(ValueError, match="one name that resolves to all of them"):
        target(address)


@pytest.mark.parametrize(
    ("where", "several"),
    [
        ("ipv4:10.0.0.1:1,10.0.0.2:1", True),
        ("ipv6:[fd00::1]:1,[fd00::2]:1", True),
        ("dns:///entitlements.internal:1", True),
        ("entitlements.internal:1", False),
        ("ipv4:10.0.0.1:1", False),
        ("unix:/run/entitlements.sock", False),
    ],
)
def test_several_servers_are_a_list_or_a_name_that_is_said_to_resolve(
    where: str, several: bool
) -> None:
    """Their health is watched; that of a single one is not."""
    assert may_be_several(where) is several


@pytest.mark.parametrize(
    ("where", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("dns:///localhost:1", True),
        ("unix:/run/entitlements.sock", True),
        ("10.0.0.1:1", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("dns:///localhost.example:1", False),
        ("dns://127.0.0.1/entitlements:1", False),
        ("xds:///localhost:1", False),
    ],
)
def test_local_is_what_never_leaves_the_machine(where: str, local: bool) -> None:
    """When in doubt it is not."""
    assert is_local(where) is local


@pytest.mark.parametrize("kind", [EntitlementClient, AsyncEntitlementClient])
def test_a_token_is_not_sent_across_a_network_in_plain_text(kind: type) -> None:
    """The message says what to do and does not have the token."""
    with pytest.raises(ValueError, match="Pass tls=") as refused:
        kind("10.0.0.1:50051", token="s3cret")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("kind", [EntitlementClient, AsyncEntitlementClient])
def test_no_token_is_shown(kind: type) -> None:
    """Neither by the client's repr nor by its attributes' names in it."""
    shown = repr(kind("127.0.0.1:50051", token="s3cret"))
    assert shown == f"{kind.__name__}('127.0.0.1:50051')"


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "tökén"])
def test_a_token_that_cannot_stand_in_a_header_is_refused(token: str) -> None:
    """And not shown either."""
    with pytest.raises(ValueError, match="printable ASCII") as refused:
        EntitlementClient("127.0.0.1:50051", token=token)
    assert not token or token not in str(refused.value)


@pytest.mark.parametrize("deadline_s", [0, -1, float("inf"), float("nan")])
def test_every_call_must_end(deadline_s: float) -> None:
    """A deadline is a positive number of seconds."""
    with pytest.raises(ValueError, match="deadline_s must be a positive number"):
        EntitlementClient("127.0.0.1:50051", deadline_s=deadline_s)


def test_a_certificate_comes_with_its_key() -> None:
    """And the key is not shown."""
    with pytest.raises(ValueError, match="Give both"):
        Tls(client_certificate=b"...")
    assert "PRIVATE" not in repr(Tls(client_certificate=b"...", client_key=b"PRIVATE"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"address": 50051}, "address must be str, or a sequence of str, not int"),
        ({"address": [50051]}, "address must be str, or a sequence of str, not list"),
        ({"token": b"s3cret"}, "token must be str, not bytes"),
        ({"deadline_s": "3"}, "deadline_s must be a number of seconds .*, not str"),
    ],
)
@pytest.mark.parametrize("kind", [EntitlementClient, AsyncEntitlementClient])
def test_an_argument_of_another_type_is_named(
    kind: Any, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        kind(**{"address": "127.0.0.1:50051", **arguments})
