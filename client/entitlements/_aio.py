"""The client for asyncio. Every method means what it means in `EntitlementClient`."""

import asyncio
import warnings
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Sequence,
)
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from entitlements import _calls, _channel, _failures
from entitlements._calls import Call
from entitlements._errors import EntitlementError
from entitlements._gate import Flow, Purchase
from entitlements._gathering import Gatherer
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

T = TypeVar("T")


class AsyncCharge:
    """A charge to `await`, or to stand around the work that it pays for with `async with`.

    Nothing is charged before one of the two. An exception that leaves the `async with` block,
    cancellation included, gives the tokens back before it propagates.
    """

    __slots__ = ("_give_back", "_paid", "_pay", "_used")

    def __init__(
        self,
        pay: Callable[[], Awaitable[Transaction]],
        give_back: Callable[[Transaction, BaseException], Awaitable[None]],
    ) -> None:
        self._pay = pay
        self._give_back = give_back
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
            await self._give_back(self._paid, error)

    def __del__(self) -> None:
        # As with a coroutine that is forgotten; here it would open a gate that nobody paid at.
        if not self._used:
            warnings.warn(
                "require_tokens was never awaited: nothing was charged",
                RuntimeWarning,
                stacklevel=2,
            )


class AsyncEntitlementClient:
    """Asks the entitlement service with asyncio. Share one among the tasks of an event loop.

    It may be built before there is an event loop and belongs to the one of its first call. The
    arguments, and what holds for every method, are those of `EntitlementClient`; and there is one more:

    Args:
        gather: Whether charges that are asked for at the same time, by `consume` or
            `require_tokens`, are sent together. Each is still charged, or denied, on its own.
                Interceptors see calls of many callers as one.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        tls: _channel.Tls | None = None,
        token: str | None = None,
        deadline_s: float = _channel.DEFAULT_DEADLINE_S,
        gather: bool = False,
    ) -> None:
        connection = _channel.Connection.to(address, tls, token)
        self._init(connection.target, token, deadline_s, gather=gather)
        self._connection: _channel.Connection | None = connection

    @classmethod
    def from_channel(
        cls,
        channel: grpc.aio.Channel,
        *,
        token: str | None = None,
        deadline_s: float = _channel.DEFAULT_DEADLINE_S,
        gather: bool = False,
    ) -> Self:
        """Use a channel of yours, with its own options and interceptors. You close it."""
        self = cls.__new__(cls)
        self._init("a channel", token, deadline_s, gather=gather)
        self._connection = None
        self._channel = channel
        return self

    def _init(self, name: str, token: str | None, deadline_s: float, *, gather: bool) -> None:
        self._name = name
        self._metadata = _channel.metadata(token)
        self._deadline_s = _channel.checked_deadline_s(deadline_s)
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._closed = False
        self._gatherer = Gatherer(self._consume_together, self._deadline_s) if gather else None
        # The event loop holds tasks weakly, and a refund must outlive who waits for it.
        self._refunds: set[asyncio.Task[None]] = set()

    async def check_access(self, user_id: str, feature: str) -> Access:
        """Tell whether a user could be charged for a feature now. Writes nothing."""
        return await self._run(_calls.check_access(user_id, feature))

    async def check_all(self, user_id: str, features: Iterable[str] = ()) -> tuple[Access, ...]:
        """Tell the access to several features (none: the catalogue) against one balance."""
        return await self._run(_calls.check_all(user_id, features))

    async def check_feature_access(self, user_id: str, feature: str) -> bool:
        """Tell whether a user could be charged for a feature now: for menus, not for gates."""
        return (await self.check_access(user_id, feature)).allowed

    def require_tokens(
        self, *, user_id: str, feature: str, event_id: str = "", idempotency_key: str | None = None
    ) -> AsyncCharge:
        """Charge for one use of a feature, or raise: `await` it, or `async with` it as `tx`."""
        purchase = Purchase.of(user_id, feature, event_id, idempotency_key)
        return AsyncCharge(
            lambda: self._drive(purchase.pay()),
            lambda paid, cause: self._shielded(self._drive(purchase.give_back(paid, cause))),
        )

    async def consume(
        self, user_id: str, feature: str, *, event_id: str = "", idempotency_key: str | None = None
    ) -> Transaction:
        """Charge for one use of a feature. The bare call: see `require_tokens` for a gate."""
        return await self._run(
            _calls.consume(ConsumeRequest(user_id, feature, event_id, idempotency_key))
        )

    async def consume_many(
        self, requests: Iterable[ConsumeRequest]
    ) -> list[Transaction | EntitlementError]:
        """Charge 1 to 1000 times in one call; what failed is returned in its place."""
        asked = list(requests)
        return await self._run(_calls.consume_many(asked)) if asked else []

    async def refund(
        self,
        user_id: str,
        transaction_id: str,
        amount: int = 0,
        *,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> Transaction:
        """Give back tokens of a charge. Amount 0: all that remain, and only once."""
        return await self._run(
            _calls.refund(user_id, transaction_id, amount, reason, idempotency_key)
        )

    async def top_up(
        self, user_id: str, amount: int, *, reason: str = "", idempotency_key: str | None = None
    ) -> Transaction:
        """Add 1 to 10^12 tokens. The account need not exist."""
        return await self._run(_calls.top_up(user_id, amount, reason, idempotency_key))

    async def set_balance(
        self, user_id: str, balance: int, *, reason: str = "", idempotency_key: str | None = None
    ) -> Transaction:
        """Set the balance to 0 to 2^53 - 1 tokens; the difference is recorded."""
        return await self._run(_calls.set_balance(user_id, balance, reason, idempotency_key))

    async def account(self, user_id: str) -> Account:
        """Read an account. One that nobody wrote to reads as zero."""
        return await self._run(_calls.account(user_id))

    async def transaction(self, user_id: str, transaction_id: str) -> Transaction:
        """Read one transaction."""
        return await self._run(_calls.transaction(user_id, transaction_id))

    async def transactions(
        self,
        user_id: str,
        *,
        feature: str = "",
        kind: TransactionKind | None = None,
        status: TransactionStatus | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Transaction]:
        """Read the history, newest first. Pages of 1 to 1000 are read as you iterate."""
        history = _calls.History(user_id, feature, kind, status, page_size)
        token = ""
        while True:
            page = await self._run(history.page(token))
            for each in page.transactions:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def features(self) -> tuple[Feature, ...]:
        """Read the catalogue, in its order."""
        return await self._run(_calls.features())

    async def close(self) -> None:
        """Finish the refunds under way, then close the connections. Other calls fail."""
        if self._refunds:
            await asyncio.wait(self._refunds)
        self._closed = True
        if self._channel is not None and self._connection is not None:
            await self._channel.close()

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
        send = getattr(self._connected(), call.method)
        if self._gatherer is not None and self._gatherer.takes(call):
            return call.read(await self._gatherer.consume(call))
        try:
            response = await send(call.request, timeout=self._deadline_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _failures.from_call(
                error.code(), error.details(), error.trailing_metadata(), call.idempotency_key
            ) from error
        return call.read(response)

    async def _consume_together(self, request: BatchConsumeRequest) -> BatchConsumeResponse:
        send = self._connected().BatchConsume
        response: BatchConsumeResponse = await send(
            request, timeout=self._deadline_s, metadata=self._metadata
        )
        return response

    def _connected(self) -> Any:
        if self._closed:
            raise ValueError("The client is closed: build a new one.")
        if self._channel is None and self._connection is not None:
            # Not in the constructor: a channel belongs to the event loop that it is opened on.
            self._channel = self._connection.aio_channel()
        if self._stub is None:
            self._stub = EntitlementServiceStub(self._channel)
        return self._stub

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
        self._refunds.add(task)
        task.add_done_callback(self._refunds.discard)
        await asyncio.shield(task)
