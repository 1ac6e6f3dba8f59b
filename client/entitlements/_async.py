"""The client for asyncio. Every method means what it means in `EntitlementClient`."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from entitlements import _calls, _channel, _error_mapping
from entitlements._batching import Batcher
from entitlements._calls import NO_LABELS, Call
from entitlements._errors import EntitlementError
from entitlements._purchase import AsyncPurchase, Flow, PurchaseFlow, charge, charges
from entitlements._values import (
    Access,
    Account,
    ConsumeRequest,
    Feature,
    Transaction,
    TransactionKind,
    TransactionStatus,
)
from entitlements.v1.entitlement_service_pb2 import BatchConsumeRequest, BatchConsumeResponse
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

if TYPE_CHECKING:
    # A type only: at run time there is one class of stubs, for both kinds of channel.
    from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceAsyncStub

T = TypeVar("T")


class AsyncEntitlementClient:
    """A client of the entitlement service for asyncio. Share one among the tasks of a program.

    It may be built before there is an event loop. A call uses the event loop that it is made on; each
    event loop has connections of its own.

    Every method that calls the service may raise `EntitlementError`; an error never means that
    access was granted. A write without an idempotency key gets one, so a retried charge is one
    charge.

    Args:
        address: `host:port`, several `ip:port` that are called in turn, or a gRPC target.
        tls: How to use TLS. None: plain text.
        token: The bearer token of this program. Over plain text it is sent to this machine only.
        deadline_s: Longest time for a call with all its retries, in seconds.
        batching: Whether concurrent charges, by `consume` or `require_tokens`, are sent in one
            call. Each is still charged or denied on its own. Interceptors see one call for many
            charges.

    Raises:
        ValueError: An argument is not valid. The message says what to do.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        tls: _channel.Tls | None = None,
        token: str | None = None,
        deadline_s: float = _channel.DEFAULT_DEADLINE_S,
        batching: bool = False,
    ) -> None:
        connection = _channel.Connection.to(address, tls, token, deadline_s)
        self._init(connection.target, token, deadline_s, batching=batching)
        self._connection: _channel.Connection | None = connection

    @classmethod
    def from_channel(
        cls,
        channel: grpc.aio.Channel,
        *,
        token: str | None = None,
        deadline_s: float = _channel.DEFAULT_DEADLINE_S,
        batching: bool = False,
    ) -> Self:
        """Use a channel of your own, with its options and interceptors.

        Args:
            channel: The channel. `close` does not close it. It works on its own event loop only, and
                so does the client.
            token: As for the constructor, but sent over any channel.
            deadline_s: As for the constructor.
            batching: As for the constructor.

        Returns:
            A client on that channel.

        Raises:
            ValueError: The token or the deadline is not valid.
        """
        self = cls.__new__(cls)
        self._init("a channel", token, deadline_s, batching=batching)
        self._connection = None
        self._own_channel = channel
        return self

    def _init(self, name: str, token: str | None, deadline_s: float, *, batching: bool) -> None:
        self._name = name
        self._metadata = _channel.metadata(token)
        self._deadline_s = _channel.checked_deadline_s(deadline_s)
        self._own_channel: grpc.aio.Channel | None = None
        self._batching = batching
        self._closed = False
        self._links: dict[asyncio.AbstractEventLoop, _Link] = {}

    async def check_access(self, user_id: str, feature: str, *, event_id: str = "") -> Access:
        """Check whether a user could be charged for a feature now. Writes and reserves nothing.

        Args:
            user_id: The user.
            feature: The feature.
            event_id: The analysed event: access to it that was charged for counts.

        Returns:
            The decision, the cost and the tokens available.

        Raises:
            InvalidRequestError: An argument is malformed.
            UnknownFeatureError: The catalogue has no such feature.
            ServiceError: The service could not answer. This is never a yes.
        """
        return await self._run(_calls.check_access(user_id, feature, event_id))

    async def batch_check_access(
        self, user_id: str, features: Iterable[str] = (), *, event_id: str = ""
    ) -> tuple[Access, ...]:
        """Check several features against one balance. Writes and reserves nothing.

        Args:
            user_id: The user.
            features: At most 1000 features. None: the whole catalogue, in its order.
            event_id: The analysed event, the same for all: access to it that was charged for counts.

        Returns:
            One decision for each feature, in the order of the request.

        Raises:
            InvalidRequestError: An argument is malformed, or there are too many features.
            UnknownFeatureError: The catalogue lacks one of the features.
            ServiceError: The service could not answer. This is never a yes.
        """
        return await self._run(_calls.batch_check_access(user_id, features, event_id))

    async def check_feature_access(self, user_id: str, feature: str, *, event_id: str = "") -> bool:
        """Check whether a user could be charged for a feature now: for menus, not for gates.

        It reserves nothing; `require_tokens` is the gate.

        Args:
            user_id: The user.
            feature: The feature.
            event_id: The analysed event: access to it that was charged for counts.

        Returns:
            Whether the available tokens cover the cost, or there is access to the event already.

        Raises:
            InvalidRequestError: An argument is malformed.
            UnknownFeatureError: The catalogue has no such feature.
            ServiceError: The service could not answer. This is never a yes.
        """
        return (await self.check_access(user_id, feature, event_id=event_id)).allowed

    def require_tokens(
        self,
        *,
        user_id: str,
        feature: str,
        event_id: str = "",
        idempotency_key: str | None = None,
        quantity: int = 1,
        max_cost: int | None = None,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> AsyncPurchase:
        """Charge for uses of a feature, or raise: `await` it, or put it around the work.

        With `async with`, an exception that leaves the block, including cancellation, refunds the
        tokens before it propagates. A retry under the same key costs nothing more. A retry that
        fails refunds nothing, because the first call may have been answered.

        Args:
            user_id: The user to charge.
            feature: The feature to charge for. The service sets the price.
            event_id: The analysed event. The same key with another event counts as reused. If the feature
                gives access for a time, the same event costs nothing until then.
            idempotency_key: Your key, so that you can retry. None: a new key for this call.
            quantity: How many uses to charge for, 1 to 10^6. Only 1 if the feature gives access for a time.
            max_cost: Highest total cost to accept, in tokens. None: any price.
            labels: Labels to store with the charge, at most 8.

        Returns:
            What to `await` or to enter; either gives the transaction that paid.

        Raises:
            AccessDeniedError: The available tokens do not cover the cost.
            AccessEndedError: The access that this key's charge gave has ended. Use a new key.
            ChargeRefundedError: The charge of this key was refunded. Use a new key.
            PriceChangedError: The feature costs more than `max_cost`.
            IdempotencyKeyReusedError: The key belongs to another request of this user.
            InvalidRequestError: An argument is malformed.
            UnknownFeatureError: The catalogue has no such feature.
            ServiceError: It is not known whether the user was charged. Retry with the error's
                `idempotency_key`. Nothing is granted.
        """
        purchase = PurchaseFlow.of(
            ConsumeRequest(user_id, feature, event_id, idempotency_key, quantity, max_cost, labels)
        )
        return AsyncPurchase(
            lambda: self._drive(purchase.pay()),
            lambda paid, cause: self._shielded(self._drive(purchase.refund(paid, cause))),
        )

    async def consume(
        self,
        user_id: str,
        feature: str,
        *,
        event_id: str = "",
        idempotency_key: str | None = None,
        quantity: int = 1,
        max_cost: int | None = None,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Transaction:
        """Charge for uses of a feature. This is close to the RPC; `require_tokens` is the gate.

        Args:
            user_id: The user to charge.
            feature: The feature to charge for. The service sets the price.
            event_id: The analysed event. If the feature gives access for a time, the same event costs
                nothing until then: the answer is the charge that paid for it, and `covered`.
            idempotency_key: Your key, so that you can retry. None: a new key for this call.
            quantity: How many uses to charge for, 1 to 10^6. Only 1 if the feature gives access for a time.
            max_cost: Highest total cost to accept, in tokens. None: any price.
            labels: Labels to store with the charge, at most 8.

        Returns:
            The charge. A replay returns the original charge, even if it was refunded since: see
            `refunded`.

        Raises:
            AccessDeniedError: The available tokens do not cover the cost.
            AccessEndedError: The access that this key's charge gave has ended. Use a new key.
            IdempotencyKeyReusedError: The key belongs to another request of this user.
            InvalidRequestError: An argument is malformed or out of range.
            PriceChangedError: The feature costs more than `max_cost`.
            UnknownFeatureError: The catalogue has no such feature.
            ServiceError: It is not known whether the user was charged. Retry with the error's
                `idempotency_key`.
        """
        request = ConsumeRequest(
            user_id, feature, event_id, idempotency_key, quantity, max_cost, labels
        )
        return await self._drive(charge(request))

    async def batch_consume(
        self, requests: Iterable[ConsumeRequest]
    ) -> list[Transaction | EntitlementError]:
        """Charge up to 1000 times in one call, each on its own and in order.

        Args:
            requests: The charges. None: nothing is sent.

        Returns:
            For each request the transaction, or the error that `consume` would have raised.

        Raises:
            InvalidRequestError: There are too many requests.
            ServiceError: The call as a whole failed. With keys of your own it may be repeated.
        """
        asked = list(requests)
        return await self._drive(charges(asked)) if asked else []

    async def refund(
        self,
        user_id: str,
        transaction_id: str,
        amount: int = 0,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Transaction:
        """Refund a charge, whole or in part.

        Args:
            user_id: The user who was charged.
            transaction_id: The charge.
            amount: Tokens to refund. 0: all that remain; asking again returns the same refund.
            reason: Why, for the history.
            idempotency_key: Your key, so that you can retry. None: a new key for this call.
            labels: Labels to store with the refund, at most 8.

        Returns:
            The refund.

        Raises:
            TransactionNotFoundError: The user has no such transaction.
            NotRefundableError: The transaction is not a successful charge, or it was free.
            RefundExceedsChargeError: The amount is more than what remains.
            BalanceLimitExceededError: The balance would exceed its limit.
            IdempotencyKeyReusedError: The key belongs to another request of this user.
            InvalidRequestError: An argument is malformed.
            ServiceError: It is not known whether the tokens were refunded. Retry with the
                error's `idempotency_key`.
        """
        return await self._run(
            _calls.refund(
                user_id,
                transaction_id,
                amount,
                reason=reason,
                idempotency_key=idempotency_key,
                labels=labels,
            )
        )

    async def top_up(
        self,
        user_id: str,
        amount: int,
        *,
        expire_time: datetime | None = None,
        lifetime: timedelta | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Transaction:
        """Add tokens to an account, which may expire. The account need not exist.

        Args:
            user_id: The user.
            amount: Tokens to add, 1 to 10^12.
            expire_time: When they expire, with a time zone, in the future. None: not at a given time.
            lifetime: How long they last from now on, 1 second to 36,500 days. Not together with
                `expire_time`. Neither: they never expire.
            reason: Why, for the history.
            idempotency_key: Your key, so that you can retry. None: a new key for this call.
            labels: Labels to store with the top-up, at most 8.

        Returns:
            The top-up.

        Raises:
            BalanceLimitExceededError: The balance would exceed its limit.
            IdempotencyKeyReusedError: The key belongs to another request of this user.
            InvalidRequestError: An argument is malformed or out of range.
            TooManyGrantsError: The account has as many open grants as it may.
            ServiceError: It is not known whether the tokens were added. Retry with the error's
                `idempotency_key`.
        """
        return await self._run(
            _calls.top_up(
                user_id,
                amount,
                expire_time=expire_time,
                lifetime=lifetime,
                reason=reason,
                idempotency_key=idempotency_key,
                labels=labels,
            )
        )

    async def set_balance(
        self,
        user_id: str,
        balance: int,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> Transaction:
        """Set the balance of an account. The difference is recorded, after what has expired by now.

        Args:
            user_id: The user.
            balance: The new balance in tokens, 0 to 2^53 - 1.
            reason: Why, for the history.
            idempotency_key: Your key, so that you can retry. None: a new key for this call.
            labels: Labels to store with the adjustment, at most 8.

        Returns:
            The adjustment.

        Raises:
            IdempotencyKeyReusedError: The key belongs to another request of this user.
            InvalidRequestError: An argument is malformed or out of range.
            ServiceError: It is not known whether the balance was set. Retry with the error's
                `idempotency_key`.
        """
        return await self._run(
            _calls.set_balance(
                user_id, balance, reason=reason, idempotency_key=idempotency_key, labels=labels
            )
        )

    async def get_account(self, user_id: str) -> Account:
        """Read an account.

        Args:
            user_id: The user.

        Returns:
            The account. One without transactions has balance 0.

        Raises:
            InvalidRequestError: The argument is malformed.
            ServiceError: The service could not answer.
        """
        return await self._run(_calls.get_account(user_id))

    async def get_transaction(self, user_id: str, transaction_id: str) -> Transaction:
        """Read one transaction.

        Args:
            user_id: The user.
            transaction_id: The transaction.

        Returns:
            The transaction.

        Raises:
            TransactionNotFoundError: The user has no such transaction.
            InvalidRequestError: An argument is malformed.
            ServiceError: The service could not answer.
        """
        return await self._run(_calls.get_transaction(user_id, transaction_id))

    async def list_transactions(
        self,
        user_id: str,
        *,
        feature: str = "",
        kind: TransactionKind | None = None,
        status: TransactionStatus | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Transaction]:
        """Read the history of a user, newest first, with `async for`.

        Args:
            user_id: The user.
            feature: Only transactions of this feature. Empty: all.
            kind: Only transactions of this kind. None: all.
            status: Only transactions of this status. None: all.
            page_size: Transactions to read in one call, 1 to 1000. 0: 100. The next page is read
                when the iteration reaches it.

        Yields:
            The transactions.

        Raises:
            ValueError: The filter is UNKNOWN.
            InvalidRequestError: An argument is malformed or out of range.
            ServiceError: The service could not answer.
        """
        history = _calls.History(user_id, feature, kind, status, page_size)
        token = ""
        while True:
            page = await self._run(history.page(token))
            for each in page.transactions:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def list_features(self) -> tuple[Feature, ...]:
        """Read the catalogue.

        Returns:
            The features, in the order of the catalogue.

        Raises:
            ServiceError: The service could not answer.
        """
        return await self._run(_calls.list_features())

    async def close(self) -> None:
        """Wait for refunds that are under way, then close the connections. Other calls fail.

        A channel that was given to `from_channel` stays open. Connections of other event loops end when
        these do.
        """
        link = self._links.get(asyncio.get_running_loop())
        if link is not None and link.refunds:
            await asyncio.wait(link.refunds)
        self._closed = True
        self._links.clear()
        if link is not None and self._connection is not None:
            await link.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    async def _run(self, call: Call[T]) -> T:
        link = self._linked()
        send = getattr(link.stub, call.method)
        if link.batcher is not None and link.batcher.accepts(call):
            return call.read(await link.batcher.consume(call))
        try:
            response = await send(call.request, timeout=self._deadline_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _error_mapping.from_call(
                error.code(), error.details(), error.trailing_metadata(), call.idempotency_key
            ) from error
        return call.read(response)

    def _linked(self) -> "_Link":
        """Return what the running event loop calls with; made at its first call."""
        if self._closed:
            raise ValueError("The client is closed. Build a new one.")
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            # Those of event loops that have ended: a test runner may make one for each request.
            for ended in [one for one in self._links if one.is_closed()]:
                del self._links[ended]
            link = self._links[loop] = self._new_link()
        return link

    def _new_link(self) -> "_Link":
        channel = self._own_channel
        if channel is None:
            assert self._connection is not None
            channel = self._connection.aio_channel()
        stub: EntitlementServiceAsyncStub = EntitlementServiceStub(channel)

        async def send_batch(request: BatchConsumeRequest) -> BatchConsumeResponse:
            return await stub.BatchConsume(
                request, timeout=self._deadline_s, metadata=self._metadata
            )

        batcher = Batcher(send_batch, self._deadline_s) if self._batching else None
        return _Link(channel, stub, batcher)

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                try:
                    result = await self._run(call)
                except Exception as error:  # noqa: BLE001 - the flow decides what it means
                    call = flow.throw(error)
                else:
                    call = flow.send(result)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _shielded(self, refund: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(refund)
        # None after `close`: then the refund fails, which is logged, and there is nothing to wait for.
        link = self._links.get(asyncio.get_running_loop())
        if link is not None:
            link.refunds.add(task)
            task.add_done_callback(link.refunds.discard)
        await asyncio.shield(task)


@dataclass(frozen=True, slots=True)
class _Link:
    """What one event loop calls with: a channel belongs to the event loop that opens it.

    Attributes:
        channel: The channel.
        stub: The RPCs on it.
        batcher: Sends charges together; None: each has its own call.
        refunds: Those under way. The event loop keeps weak references to tasks, and a refund must
            outlive its caller.
    """

    channel: grpc.aio.Channel
    stub: "EntitlementServiceAsyncStub"
    batcher: Batcher | None
    refunds: set[asyncio.Task[None]] = field(default_factory=set)
