"""What `require_tokens` means, for both clients: pay or raise, and failed work costs nothing.

Every charge is in one of two states, and so is the idempotency key that it belongs to:

* *paid*: the key opens the analysis, now and on every retry, at no further cost;
* *given back*: the key opens nothing any more (`ChargeRefundedError`).

So a failure gives back the tokens only of a charge that this very call made. The charge of an
earlier call under the same key may have been served already; giving it back because a
retry failed would make the first answer free for everyone who can provoke a failure. Whoever paid
and got nothing loses nothing: the key stays paid and may be sent again.

The flows here yield calls and are sent their results: a client drives them, so nothing of this is
written twice.
"""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from entitlements import _calls
from entitlements._calls import Call
from entitlements._errors import ChargeRefundedError, RefundExceedsChargeError
from entitlements._values import ConsumeRequest, Transaction

T = TypeVar("T")
Flow = Generator[Call[Any], Any, T]
"""Calls to make, one after the other, and what they come to."""

_log = logging.getLogger("entitlements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge(Transaction):
    """The transaction that paid, which may also stand around the work that it pays for.

    An exception that leaves the `with` block gives the tokens back before it propagates.
    """

    _give_back: Callable[[Transaction, BaseException], None] = field(repr=False, compare=False)

    @classmethod
    def of(cls, paid: Transaction, give_back: Callable[[Transaction, BaseException], None]) -> Self:
        """Make the charge of a transaction."""
        values = {each.name: getattr(paid, each.name) for each in fields(Transaction)}
        return cls(**values, _give_back=give_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._give_back(self, error)


@dataclass(frozen=True, slots=True)
class Purchase:
    """One use of `require_tokens`, before it has paid.

    Attributes:
        request: The charge to ask for; it has a key.
        key_is_ours: The key was made here, so nobody else can have used it before.
    """

    request: ConsumeRequest
    key_is_ours: bool

    @classmethod
    def of(
        cls, user_id: str, feature: str, event_id: str, idempotency_key: str | None
    ) -> "Purchase":
        """Make it, with a key if none is given (an empty one is none)."""
        request = ConsumeRequest(user_id, feature, event_id, idempotency_key or None)
        if request.idempotency_key is not None:
            return cls(request, key_is_ours=False)
        return cls(replace(request, idempotency_key=_calls.new_key()), key_is_ours=True)

    def pay(self) -> Flow[Transaction]:
        """Charge, and look whether a charge of an earlier call still stands.

        Raises:
            EntitlementError: It was denied, failed or cannot be known: nothing is granted.
        """
        paid: Transaction = yield _calls.consume(self.request)
        if self._is_of_this_call(paid) or not paid.cost:
            return paid
        remaining = 0
        try:
            yield _calls.ask_for_too_much(paid)
        except RefundExceedsChargeError as refusal:
            remaining = refusal.remaining
        if not remaining:
            raise ChargeRefundedError(
                "The tokens of this idempotency key were given back, so it opens nothing any "
                "more: ask again with a new key.",
                metadata={"transaction_id": paid.transaction_id},
                idempotency_key=paid.idempotency_key,
            )
        return paid

    def give_back(self, paid: Transaction, cause: BaseException) -> Flow[None]:
        """Give back the tokens of failed work, unless there are none or they are not ours to give.

        Never raises: what went wrong here is logged and noted on `cause`, which is about to
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
                # Made from the charge: however often it is tried, the tokens come back once.
                idempotency_key=f"failed-{paid.transaction_id}",
            )
        except Exception as failure:  # noqa: BLE001 - whatever it is, `cause` matters more
            note = (
                f"The {paid.cost} tokens of transaction {paid.transaction_id} could not be given "
                f"back: {failure} Refund it when the service can be reached."
            )
            cause.add_note(note)
            _log.error(note)

    def _is_of_this_call(self, paid: Transaction) -> bool:
        # Under a key made here, a replay is gRPC's own second try, whose first reply was lost.
        return self.key_is_ours or not paid.replayed
