"""The client for blocking code."""

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from entitlements import _calls, _channel, _failures
from entitlements._calls import Call
from entitlements._errors import EntitlementError
from entitlements._gate import Charge, Flow, Purchase
from entitlements._values import (
    Access,
    Account,
    ConsumeRequest,
    Feature,
    Transaction,
    TransactionKind,
    TransactionStatus,
)
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

T = TypeVar("T")


class EntitlementClient:
    """Asks the entitlement service, blocking. Share one: it is safe for any number of threads.

    Every method may raise `EntitlementError`; none of them ever grants access by failing. Every
    write without an idempotency key gets one, so a retried charge is one charge.

    Args:
        address: `host:port`, several `ip:port` that share the calls in turn, or a gRPC target.
        tls: How to speak TLS. None: plain text.
        token: The bearer token of this program. Over plain text only to this very machine.
        deadline_s: How long a call may take with all its retries, in seconds.

    Raises:
        ValueError: An argument cannot be right; the message says what to do.
        OSError: A certificate file cannot be read.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        tls: _channel.Tls | None = None,
        token: str | None = None,
        deadline_s: float = _channel.DEFAULT_DEADLINE_S,
    ) -> None:
        connection = _channel.Connection.to(address, tls, token)
        self._open(connection.channel(), connection.target, token, deadline_s)
        self._owns_channel = True

    @classmethod
    def from_channel(
        cls,
        channel: grpc.Channel,
        *,
        token: str | None = None,
        deadline_s: float = _channel.DEFAULT_DEADLINE_S,
    ) -> Self:
        """Use a channel of yours, with its own options and interceptors. You close it."""
        self = cls.__new__(cls)
        self._open(channel, "a channel", token, deadline_s)
        self._owns_channel = False
        return self

    def _open(self, channel: grpc.Channel, name: str, token: str | None, deadline_s: float) -> None:
        self._name = name
        self._metadata = _channel.metadata(token)
        self._deadline_s = _channel.checked_deadline_s(deadline_s)
        self._channel = channel
        self._stub: Any = EntitlementServiceStub(channel)

    def check_access(self, user_id: str, feature: str) -> Access:
        """Tell whether a user could be charged for a feature now. Writes nothing."""
        return self._run(_calls.check_access(user_id, feature))

    def check_all(self, user_id: str, features: Iterable[str] = ()) -> tuple[Access, ...]:
        """Tell the access to several features (none: the catalogue) against one balance."""
        return self._run(_calls.check_all(user_id, features))

    def check_feature_access(self, user_id: str, feature: str) -> bool:
        """Tell whether a user could be charged for a feature now: for menus, not for gates.

        It reserves nothing; `require_tokens` is the gate. A service that cannot be reached
        raises and is never a yes.
        """
        return self.check_access(user_id, feature).allowed

    def require_tokens(
        self, *, user_id: str, feature: str, event_id: str = "", idempotency_key: str | None = None
    ) -> Charge:
        """Charge for one use of a feature, or raise.

        Call it, or put it around the work: then an exception that leaves the `with` block gives
        the tokens back before it propagates. A retry under the same key costs nothing more; what
        failed under it is not given back a second time or by a retry.

        Args:
            user_id: Who pays.
            feature: What for. The price is the service's.
            event_id: The event that is analysed: with another one the key counts as reused.
            idempotency_key: Yours, so that you can retry. None: one is made for this call.

        Returns:
            The transaction that paid.

        Raises:
            AccessDeniedError: The balance does not cover it.
            ChargeRefundedError: The key's charge was given back: use a new key.
            IdempotencyKeyReusedError: The key belongs to another request of this user.
            ServiceError: Unknown whether it was charged: retry under `idempotency_key` of the
                error. Nothing is granted.
        """
        purchase = Purchase.of(user_id, feature, event_id, idempotency_key)
        paid = self._drive(purchase.pay())
        return Charge.of(paid, lambda tx, cause: self._drive(purchase.give_back(tx, cause)))

    def consume(
        self, user_id: str, feature: str, *, event_id: str = "", idempotency_key: str | None = None
    ) -> Transaction:
        """Charge for one use of a feature. The bare call: see `require_tokens` for a gate.

        A replay answers with the original charge, even if that was refunded since.

        Raises:
            AccessDeniedError: The balance does not cover it.
        """
        return self._run(
            _calls.consume(ConsumeRequest(user_id, feature, event_id, idempotency_key))
        )

    def consume_many(
        self, requests: Iterable[ConsumeRequest]
    ) -> list[Transaction | EntitlementError]:
        """Charge 1 to 1000 times in one call, each on its own and in order.

        Returns:
            For each request the transaction, or the error that `consume` would have raised.

        Raises:
            EntitlementError: The call as a whole failed. Under your own keys it may be repeated.
        """
        asked = list(requests)
        return self._run(_calls.consume_many(asked)) if asked else []

    def refund(
        self,
        user_id: str,
        transaction_id: str,
        amount: int = 0,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Transaction:
        """Give back tokens of a charge. Amount 0: all that remain, and only once.

        Raises:
            TransactionNotFoundError: The user has no such transaction.
            NotRefundableError: It is not a successful charge, or it was free.
            RefundExceedsChargeError: It is more than what remains.
        """
        return self._run(_calls.refund(user_id, transaction_id, amount, reason, idempotency_key))

    def top_up(
        self, user_id: str, amount: int, *, reason: str = "", idempotency_key: str | None = None
    ) -> Transaction:
        """Add 1 to 10^12 tokens. The account need not exist."""
        return self._run(_calls.top_up(user_id, amount, reason, idempotency_key))

    def set_balance(
        self, user_id: str, balance: int, *, reason: str = "", idempotency_key: str | None = None
    ) -> Transaction:
        """Set the balance to 0 to 2^53 - 1 tokens; the difference is recorded."""
        return self._run(_calls.set_balance(user_id, balance, reason, idempotency_key))

    def account(self, user_id: str) -> Account:
        """Read an account. One that nobody wrote to reads as zero."""
        return self._run(_calls.account(user_id))

    def transaction(self, user_id: str, transaction_id: str) -> Transaction:
        """Read one transaction.

        Raises:
            TransactionNotFoundError: The user has no such transaction.
        """
        return self._run(_calls.transaction(user_id, transaction_id))

    def transactions(
        self,
        user_id: str,
        *,
        feature: str = "",
        kind: TransactionKind | None = None,
        status: TransactionStatus | None = None,
        page_size: int = 100,
    ) -> Iterator[Transaction]:
        """Read the history, newest first. Pages of 1 to 1000 are read as you iterate."""
        history = _calls.History(user_id, feature, kind, status, page_size)
        token = ""
        while True:
            page = self._run(history.page(token))
            yield from page.transactions
            token = page.next_page_token
            if not token:
                return

    def features(self) -> tuple[Feature, ...]:
        """Read the catalogue, in its order."""
        return self._run(_calls.features())

    def close(self) -> None:
        """Close the connections. Calls under way fail."""
        if self._owns_channel:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def _run(self, call: Call[T]) -> T:
        send = getattr(self._stub, call.method)
        try:
            response = send(call.request, timeout=self._deadline_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _failures.from_call(
                error.code(), error.details(), error.trailing_metadata(), call.idempotency_key
            ) from error
        return call.read(response)

    def _drive(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                try:
                    result = self._run(call)
                except Exception as error:  # noqa: BLE001 - the flow decides what it means
                    call = flow.throw(error)
                else:
                    call = flow.send(result)
        except StopIteration as done:
            value: T = done.value
            return value
