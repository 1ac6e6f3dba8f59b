"""What charges mean to both clients: which give access, and which are refunded if the work fails.

A charge, and the idempotency key that it belongs to, is in one of three states:

* *paid*: the key gives access to the analysis, now and on every retry, at no further cost;
* *refunded*: the key gives access to nothing any more (`ChargeRefundedError`);
* *ended*: it opened an access window, which has ended (`AccessEndedError`).

So a failure refunds only a charge that this very call made. The charge of an earlier call under the
same key may have been served already. If a failing retry refunded it, everyone who can provoke a
failure would have had the first answer for free. A user who paid and got nothing loses nothing: the
key stays paid and may be sent again.

A flow here yields calls and receives their results. Both clients drive the same flows, so the rules
are written once.
"""

import logging
import warnings
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from entitlements import _calls
from entitlements._calls import Call
from entitlements._errors import (
    AccessEndedError,
    ChargeRefundedError,
    EntitlementError,
    PriceChangedError,
    UnexpectedServiceError,
    UnknownFeatureError,
)
from entitlements._values import ConsumeRequest, Transaction

T = TypeVar("T")
Flow = Generator[Call[Any], Any, T]
"""Calls to make, one after the other, and the value that they lead to."""

_log = logging.getLogger("entitlements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase(Transaction):
    """The transaction that paid. It may be put around the work that it pays for, with `with`.

    An exception that leaves the `with` block refunds the tokens before it propagates.
    """

    _refund: Callable[[Transaction, BaseException], None] = field(repr=False, compare=False)

    @classmethod
    def of(cls, paid: Transaction, refund: Callable[[Transaction, BaseException], None]) -> Self:
        """Make the purchase of a transaction.

        Args:
            paid: The transaction that paid.
            refund: Refunds it; receives it and the exception that ended the work.
        """
        values = {each.name: getattr(paid, each.name) for each in fields(Transaction)}
        return cls(**values, _refund=refund)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._refund(self, error)


class AsyncPurchase:
    """A charge to `await`, or to put around the work that it pays for with `async with`.

    Nothing is charged before that. An exception that leaves the `async with` block, including
    cancellation, refunds the tokens before it propagates.
    """

    __slots__ = ("_paid", "_pay", "_refund", "_used")

    def __init__(
        self,
        pay: Callable[[], Awaitable[Transaction]],
        refund: Callable[[Transaction, BaseException], Awaitable[None]],
    ) -> None:
        self._pay = pay
        self._refund = refund
        self._paid: Transaction | None = None
        self._used = False

    def __await__(self) -> Generator[Any, Any, Transaction]:
        self._used = True
        return self._pay().__await__()

    async def __aenter__(self) -> Transaction:
        self._paid = await self
        return self._paid

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._paid is not None:
            await self._refund(self._paid, error)

    def __del__(self) -> None:
        # As for a coroutine that was never awaited. Here it would let in a user who has not paid.
        if not self._used:
            warnings.warn(
                "require_tokens was never awaited, so nothing was charged.",
                RuntimeWarning,
                stacklevel=2,
            )


@dataclass(frozen=True, slots=True)
class PurchaseFlow:
    """The calls of one `require_tokens`.

    Attributes:
        request: The charge to make; it has a key.
        key_is_ours: The key was made here, so nobody else can have used it before.
    """

    request: ConsumeRequest
    key_is_ours: bool

    @classmethod
    def of(cls, request: ConsumeRequest) -> "PurchaseFlow":
        """Make the flow, with a new key if none, or an empty one, is given."""
        if request.idempotency_key:
            return cls(request, key_is_ours=False)
        return cls(replace(request, idempotency_key=_calls.new_key()), key_is_ours=True)

    def pay(self) -> Flow[Transaction]:
        """Charge. If an earlier call made the charge, check that it still stands.

        Raises:
            EntitlementError: The charge was denied, failed, or its outcome is not known. Nothing
                is granted.
        """
        paid: Transaction = yield _calls.consume(self.request)
        if self._is_of_this_call(paid) or paid.covered or not paid.cost:
            return paid
        if not paid.quantity:
            raise UnexpectedServiceError(
                "The entitlement service is older than this client and does not say what was "
                "refunded, so nothing is granted. Upgrade the service before its clients.",
                idempotency_key=paid.idempotency_key,
            )
        if paid.refunded >= paid.cost:
            raise ChargeRefundedError(
                "The charge of this idempotency key was refunded, so the key gives access to "
                "nothing any more. Ask again with a new key.",
                metadata={"transaction_id": paid.transaction_id},
                idempotency_key=paid.idempotency_key,
            )
        return (yield from still_open(self.request, paid))

    def refund(self, paid: Transaction, cause: BaseException) -> Flow[None]:
        """Refund work that failed, unless it was free or another call paid for it.

        Never raises. A failure is logged and added as a note to `cause`, which is about to
        propagate and must not be hidden.
        """
        if not paid.cost or not self._is_of_this_call(paid):
            return
        try:
            yield _calls.refund(
                paid.user_id,
                paid.transaction_id,
                amount=0,
                reason="The analysis failed.",
                # Made from the charge, so that retries refund it once.
                idempotency_key=f"failed-{paid.transaction_id}",
            )
        except Exception as failure:  # noqa: BLE001 - whatever it is, `cause` matters more
            note = (
                f"The {paid.cost} tokens of transaction {paid.transaction_id} could not be "
                f"refunded: {failure} Refund them when the service can be reached."
            )
            cause.add_note(note)
            _log.error(note)

    def _is_of_this_call(self, paid: Transaction) -> bool:
        # Under a key made here, a replay is gRPC's own retry of a call whose reply was lost.
        return not paid.covered and (self.key_is_ours or not paid.replayed)


def charge(request: ConsumeRequest) -> Flow[Transaction]:
    """Charge, without a look at what was refunded.

    Raises:
        EntitlementError: The charge was denied, failed, or its outcome is not known; or the access of
            the key's charge has ended.
    """
    done: Transaction = yield _calls.consume(request)
    return (yield from still_open(request, done))


def charges(requests: Sequence[ConsumeRequest]) -> Flow[list[Transaction | EntitlementError]]:
    """Charge several times. Each is a transaction, or the error that `charge` would have raised."""
    done: list[Transaction | EntitlementError] = yield _calls.batch_consume(requests)
    asked = [index for index, one in enumerate(done) if _may_have_ended(requests[index], one)]
    if asked:
        answers = yield _calls.batch_consume([_probe(requests[index]) for index in asked])
        for index, answer in zip(asked, answers, strict=True):
            earlier = done[index]
            assert isinstance(earlier, Transaction)
            done[index] = _judged(earlier, answer)
    return done


def still_open(request: ConsumeRequest, paid: Transaction) -> Flow[Transaction]:
    """Return the charge that gives access, if that is over of the charge that a key replays.

    Args:
        request: The request.
        paid: Its answer.

    Raises:
        AccessEndedError: The access window of the charge has ended, and there is no other.
        EntitlementError: Whether it has is not known.
    """
    if not _may_have_ended(request, paid):
        return paid
    try:
        answer = yield _calls.consume(_probe(request))
    except EntitlementError as error:
        answer = error
    judged = _judged(paid, answer)
    if isinstance(judged, EntitlementError):
        raise judged
    return judged


def _may_have_ended(request: ConsumeRequest, answer: Transaction | EntitlementError) -> bool:
    return (
        isinstance(answer, Transaction)
        and answer.replayed
        and answer.access_until is not None
        and answer.refunded < answer.cost
        # Under a key made here, a replay is gRPC's own retry of a call whose reply was lost.
        and bool(request.idempotency_key)
    )


def _probe(request: ConsumeRequest) -> ConsumeRequest:
    """Ask whether a window is open, by the clock of the service, which is the one that counts.

    A charge that may cost nothing: the service answers it with the charge that covers it, or says that it costs
    more and records nothing.
    """
    return replace(request, idempotency_key=_calls.new_key(), max_cost=0)


def _judged(
    paid: Transaction, answer: Transaction | EntitlementError
) -> Transaction | EntitlementError:
    """Return what a replayed charge is worth, from the answer to its probe."""
    if isinstance(answer, Transaction):
        # It may be covered by a later charge; and what costs nothing by now is open.
        return paid if answer.transaction_id == paid.transaction_id else answer
    if not isinstance(answer, PriceChangedError | UnknownFeatureError):
        return answer
    assert paid.access_until is not None
    return AccessEndedError(
        f"The access that the charge of this idempotency key gave has ended on "
        f"{paid.access_until:%Y-%m-%d %H:%M:%S} UTC, so the key gives access to nothing any more. "
        "Ask again with a new key.",
        metadata={
            "transaction_id": paid.transaction_id,
            "access_until": paid.access_until.isoformat(),
        },
        idempotency_key=paid.idempotency_key,
    )
