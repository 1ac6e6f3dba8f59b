"""`require_tokens`: pay or raise, and failed work costs nothing. Both clients, a real service."""

import asyncio
import gc

import pytest

from entitlements import (
    AccessDeniedError,
    AsyncEntitlementClient,
    AsyncPurchase,
    ChargeRefundedError,
    EntitlementClient,
    FeatureTier,
    IdempotencyKeyReusedError,
    Purchase,
    Transaction,
    TransactionKind,
)
from support.asking import Asking
from support.server_process import ServerProcess

FULL = FeatureTier.FULL_DISTRIBUTION


def fail(_: Transaction) -> None:
    raise ArithmeticError("it did not converge")


async def test_it_charges_when_it_is_called(ask: Asking, user: str) -> None:
    """The answer is the transaction."""
    await ask("top_up", user, 5)
    tx = await ask("require_tokens", user_id=user, feature=FULL, event_id="final")
    assert isinstance(tx, Transaction)
    assert (tx.balance_after, tx.event_id) == (3, "final")


async def test_it_raises_when_the_balance_does_not_cover_it(ask: Asking, user: str) -> None:
    """The work does not run."""
    with pytest.raises(AccessDeniedError):
        await ask("require_tokens", user_id=user, feature=FULL)
    with pytest.raises(AccessDeniedError):
        await ask.gated(lambda _: pytest.fail("granted"), user_id=user, feature=FULL)


async def test_work_that_succeeds_is_paid(ask: Asking, user: str) -> None:
    """The tokens stay spent, and the block has the transaction."""
    await ask("top_up", user, 5)
    assert await ask.gated(lambda tx: tx.balance_after, user_id=user, feature=FULL) == 3
    assert (await ask("get_account", user)).balance == 3


async def test_work_that_fails_gives_the_tokens_back_before_it_propagates(
    ask: Asking, user: str
) -> None:
    """The history has the charge and its refund, which says why."""
    await ask("top_up", user, 5)
    with pytest.raises(ArithmeticError, match="it did not converge"):
        await ask.gated(fail, user_id=user, feature=FULL)
    refund, charge = (await ask.history(user))[:2]
    assert (refund.kind, refund.balance_after) == (TransactionKind.REFUND, 5)
    assert refund.refunded_transaction_id == charge.transaction_id
    assert refund.reason == "The analysis failed."


async def test_free_work_that_fails_has_nothing_to_give_back(ask: Asking, user: str) -> None:
    """Only the use is recorded."""
    with pytest.raises(ArithmeticError) as failure:
        await ask.gated(fail, user_id=user, feature=FeatureTier.HEADLINE_PICK)
    assert not hasattr(failure.value, "__notes__")
    assert [each.kind for each in await ask.history(user)] == [TransactionKind.CONSUME]


async def test_a_retry_under_the_same_key_is_granted_at_no_further_cost(
    ask: Asking, user: str
) -> None:
    """Even at a balance of zero."""
    await ask("top_up", user, 2)
    paid = {"user_id": user, "feature": FULL, "idempotency_key": "k"}
    first = await ask("require_tokens", **paid)
    again = await ask("require_tokens", **paid)
    assert (again.transaction_id, again.replayed) == (first.transaction_id, True)
    assert (await ask("get_account", user)).balance == 0


async def test_a_key_whose_tokens_were_given_back_opens_nothing(ask: Asking, user: str) -> None:
    """Otherwise a failed analysis would be a free one on its retry. A new key pays again."""
    await ask("top_up", user, 2)
    with pytest.raises(ArithmeticError):
        await ask.gated(fail, user_id=user, feature=FULL, idempotency_key="k")
    with pytest.raises(ChargeRefundedError) as refunded:
        await ask.gated(
            lambda _: pytest.fail("granted"), user_id=user, feature=FULL, idempotency_key="k"
        )
    charge = (await ask.history(user))[1]
    assert refunded.value.transaction_id == charge.transaction_id
    assert refunded.value.idempotency_key == "k"
    assert (await ask("get_account", user)).balance == 2
    await ask("require_tokens", user_id=user, feature=FULL, idempotency_key="k-2")
    assert (await ask("get_account", user)).balance == 0


async def test_a_retry_that_fails_gives_back_nothing_and_the_key_stays_paid(
    ask: Asking, user: str
) -> None:
    """Otherwise whoever can make a retry fail would have the first answer for free."""
    await ask("top_up", user, 2)
    paid = {"user_id": user, "feature": FULL, "idempotency_key": "k"}
    await ask.gated(lambda tx: None, **paid)
    with pytest.raises(ArithmeticError):
        await ask.gated(fail, **paid)
    assert (await ask("get_account", user)).balance == 0
    assert await ask.gated(lambda tx: tx.replayed, **paid)


async def test_a_charge_that_was_given_back_in_part_still_opens(ask: Asking, user: str) -> None:
    """A gesture of goodwill is no refund of the whole."""
    await ask("top_up", user, 2)
    tx = await ask("require_tokens", user_id=user, feature=FULL, idempotency_key="k")
    await ask("refund", user, tx.transaction_id, 1)
    again = await ask("require_tokens", user_id=user, feature=FULL, idempotency_key="k")
    assert again.replayed
    assert (await ask("get_account", user)).balance == 1


async def test_a_key_is_for_one_event(ask: Asking, user: str) -> None:
    """With another event it is rejected instead of opening that for free."""
    await ask("top_up", user, 10)
    paid = {"user_id": user, "feature": FULL, "idempotency_key": "k"}
    await ask("require_tokens", **paid, event_id="semifinal")
    with pytest.raises(IdempotencyKeyReusedError) as reused:
        await ask("require_tokens", **paid, event_id="final")
    assert reused.value.field == "event_id"


async def test_an_empty_key_is_no_key(ask: Asking, user: str) -> None:
    """Two calls are two charges."""
    await ask("top_up", user, 4)
    for _ in range(2):
        await ask("require_tokens", user_id=user, feature=FULL, idempotency_key="")
    assert (await ask("get_account", user)).balance == 0


async def test_a_refund_that_fails_does_not_hide_why_the_work_failed(
    ask: Asking, service: ServerProcess, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception of the work propagates, with a note; the log has it, too."""
    await ask("top_up", user, 5)

    def fail_after_refund(tx: Transaction) -> None:
        # Part of it is gone already under the very key of the refund: that will be rejected.
        key = f"failed-{tx.transaction_id}"
        with EntitlementClient(service.address) as other:
            other.refund(user, tx.transaction_id, 1, idempotency_key=key)
        raise ArithmeticError("it did not converge")

    with pytest.raises(ArithmeticError, match="it did not converge") as failure:
        await ask.gated(fail_after_refund, user_id=user, feature=FULL)
    (note,) = failure.value.__notes__
    assert "could not be refunded" in note
    assert note in caplog.text


def test_the_charge_is_a_transaction_that_can_stand_around_work(
    client: EntitlementClient, user: str
) -> None:
    """Of the blocking client the call itself charges, and `with` may follow later."""
    client.top_up(user, 2)
    charge = client.require_tokens(user_id=user, feature=FULL)
    assert isinstance(charge, Purchase)
    assert client.get_account(user).balance == 0
    assert "_refund" not in repr(charge)
    with pytest.raises(ArithmeticError), charge as tx:
        fail(tx)
    assert tx is charge
    assert client.get_account(user).balance == 2


async def test_work_that_is_cancelled_gives_the_tokens_back(
    aio_client: AsyncEntitlementClient, user: str
) -> None:
    """Cancellation is an exception like any other; the refund is shielded from it."""
    await aio_client.top_up(user, 5)
    started = asyncio.Event()

    async def work() -> None:
        async with aio_client.require_tokens(user_id=user, feature=FULL):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await aio_client.get_account(user)).balance == 5


async def test_a_refund_survives_a_second_cancellation(
    aio_client: AsyncEntitlementClient, service: ServerProcess, user: str
) -> None:
    """Even when nobody waits for it any more, and closing the client waits for it."""
    await aio_client.top_up(user, 5)
    started = asyncio.Event()

    async def work(client: AsyncEntitlementClient) -> None:
        async with client.require_tokens(user_id=user, feature=FULL):
            started.set()
            await asyncio.Event().wait()

    async with AsyncEntitlementClient(service.address) as client:
        task = asyncio.create_task(work(client))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)  # the refund has begun
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await aio_client.get_account(user)).balance == 5


async def test_a_forgotten_await_is_reported(aio_client: AsyncEntitlementClient, user: str) -> None:
    """It would be a gate that nobody pays at."""
    with pytest.warns(RuntimeWarning, match="never awaited, so nothing was charged"):
        _forget(aio_client.require_tokens(user_id=user, feature=FULL))


def _forget(charge: AsyncPurchase) -> None:
    del charge
    gc.collect()
