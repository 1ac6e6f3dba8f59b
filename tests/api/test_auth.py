"""Recognising callers and holding them to their rates, without a network."""

import pytest
from structlog.testing import capture_logs

from entitlements_server.api.auth import Auth
from entitlements_server.api.errors import RateLimitedError, UnauthenticatedError
from entitlements_server.config.callers import Caller, Role, token_hash
from support import access
from support.access import EVERYTHING, SERVICE, caller, code_of
from support.rpc import serving

WEB = Caller(name="web", roles=frozenset(Role), token_hashes=(token_hash("t"),), rate=2, burst=3)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"bearer {token}"),)


def test_a_caller_is_recognised_again_and_again() -> None:
    auth = Auth([WEB])
    for _ in range(3):
        identity = auth.by_token(bearer("t"))
        assert identity is not None
        assert identity.caller is WEB
    for _ in range(3):
        with pytest.raises(UnauthenticatedError, match="not known"):
            auth.by_token(bearer("u"))


def test_credentials_expire_even_for_who_was_recognised_before() -> None:
    clock = Clock()
    late = Caller(
        name="late", roles=frozenset(Role), token_hashes=(token_hash("t"),), expires_s=1001
    )
    auth = Auth([late], clock=clock)
    assert auth.by_token(bearer("t")) is not None
    clock.now = 1001
    with pytest.raises(UnauthenticatedError, match="expired"):
        auth.by_token(bearer("t"))


def test_new_callers_replace_the_old_ones_at_once_and_keep_their_buckets() -> None:
    clock = Clock()
    auth = Auth([WEB], steady_clock=clock)
    identity = auth.by_token(bearer("t"))
    assert identity is not None
    for _ in range(3):
        auth.admit(identity, Role.READER)
    rotated = Caller(name="web", roles=WEB.roles, token_hashes=(token_hash("u"),), rate=2, burst=3)
    auth.replace([rotated])
    with pytest.raises(UnauthenticatedError):
        auth.by_token(bearer("t"))
    identity = auth.by_token(bearer("u"))
    assert identity is not None
    with pytest.raises(RateLimitedError) as limited:
        auth.admit(identity, Role.READER)
    assert limited.value.retry_delay_s == 0.5
    clock.now += 0.5
    auth.admit(identity, Role.READER)


def test_a_rate_of_the_settings_holds_for_callers_without_their_own() -> None:
    plain = Caller(name="plain", roles=frozenset(Role), token_hashes=(token_hash("p"),))
    free = Caller(name="free", roles=frozenset(Role), token_hashes=(token_hash("f"),), rate=0)
    auth = Auth([plain, free], rate=1, steady_clock=Clock())
    identity = auth.by_token(bearer("p"))
    assert identity is not None
    auth.admit(identity, None)
    with pytest.raises(RateLimitedError):
        auth.admit(identity, None)
    identity = auth.by_token(bearer("f"))
    assert identity is not None
    for _ in range(1000):
        auth.admit(identity, None)


async def test_the_log_names_a_caller_that_is_known_whatever_it_is_rejected_for() -> None:
    """Over its rate, without the role, and with credentials that have expired."""
    callers = (
        caller("slow", *EVERYTHING, rate=0.01, burst=1),
        caller("reader", Role.READER),
        caller("late", *EVERYTHING, expires_s=1),
    )
    consume = f"/{SERVICE.full_name}/Consume"
    async with serving(callers) as api:
        await code_of(api.channel, consume, access.bearer("slow"))
        with capture_logs() as lines:
            for name in ("slow", "reader", "late", "nobody"):
                await code_of(api.channel, consume, access.bearer(name))
    rejected = [line["caller"] for line in lines if line["event"] == "A call was rejected."]
    assert rejected == ["slow", "reader", "late", ""]
