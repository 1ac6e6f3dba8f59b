"""The client for blocking code."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, TypeVar

import grpc

from entitlements import _calls, _channel, _error_mapping
from entitlements._calls import NO_LABELS, Call
from entitlements._errors import EntitlementError
from entitlements._purchase import Flow, Purchase, PurchaseFlow, charge, charges
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
    """A blocking client of the entitlement service. Share one: it is safe for any number of threads.

    Every method that calls the service may raise `EntitlementError`; an error never means that
    access was granted. A write without an idempotency key gets one, so a retried charge is one
    charge.

    Args:
        address: `host:port`, several `ip:port` that are called in turn, or a gRPC target.
        tls: How to use TLS. None: plain text.
        token: The bearer token of this program. Over plain text it is sent to this machine only.
        deadline_s: Longest time for a call with all its retries, in seconds.

    Raises:
        ValueError: An argument is not valid. The message says what to do.
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
        connection = _channel.Connection.to(address, tls, token, deadline_s)
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
        """Use a channel of your own, with its options and interceptors.

        Args:
            channel: The channel. `close` does not close it.
            token: As for the constructor, but sent over any channel.
            deadline_s: As for the constructor.

        Returns:
            A client on that channel.

        Raises:
            ValueError: The token or the deadline is not valid.
        """
        self = cls.__new__(cls)
        self._open(channel, "a channel", token, deadline_s)
        self._owns_channel = False
        return self

    def _open(self, channel: grpc.Channel, name: str, token: str | None, deadline_s: float) -> None:
        self._name = name
        self._metadata = _channel.metadata(token)
        self._deadline_s = _channel.checked_deadline_s(deadline_s)
        self._channel = channel
        self._stub = EntitlementServiceStub(channel)

    def check_access(self, user_id: str, feature: str, *, event_id: str = "") -> Access:
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
        return self._run(_calls.check_access(user_id, feature, event_id))

    def batch_check_access(
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
        return self._run(_calls.batch_check_access(user_id, features, event_id))

    def check_feature_access(self, user_id: str, feature: str, *, event_id: str = "") -> bool:
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
        return self.check_access(user_id, feature, event_id=event_id).allowed

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
    ) -> Purchase:
        """Charge for uses of a feature, or raise: call it, or put it around the work.

        With `with`, an exception that leaves the block refunds the tokens before it propagates. A
        retry under the same key costs nothing more. A retry that fails refunds nothing, because
        the first call may have been answered.

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
            The transaction that paid, which may be entered.

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
        paid = self._drive(purchase.pay())
        return Purchase.of(paid, lambda tx, cause: self._drive(purchase.refund(tx, cause)))

    def consume(
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
        return self._drive(charge(request))

    def batch_consume(
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
        return self._drive(charges(asked)) if asked else []

    def refund(
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
        return self._run(
            _calls.refund(
                user_id,
                transaction_id,
                amount,
                reason=reason,
                idempotency_key=idempotency_key,
                labels=labels,
            )
        )

    def top_up(
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
        return self._run(
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

    def set_balance(
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
        return self._run(
            _calls.set_balance(
                user_id, balance, reason=reason, idempotency_key=idempotency_key, labels=labels
            )
        )

    def get_account(self, user_id: str) -> Account:
        """Read an account.

        Args:
            user_id: The user.

        Returns:
            The account. One without transactions has balance 0.

        Raises:
            InvalidRequestError: The argument is malformed.
            ServiceError: The service could not answer.
        """
        return self._run(_calls.get_account(user_id))

    def get_transaction(self, user_id: str, transaction_id: str) -> Transaction:
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
        return self._run(_calls.get_transaction(user_id, transaction_id))

    def list_transactions(
        self,
        user_id: str,
        *,
        feature: str = "",
        kind: TransactionKind | None = None,
        status: TransactionStatus | None = None,
        page_size: int = 100,
    ) -> Iterator[Transaction]:
        """Read the history of a user, newest first.

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
            page = self._run(history.page(token))
            yield from page.transactions
            token = page.next_page_token
            if not token:
                return

    def list_features(self) -> tuple[Feature, ...]:
        """Read the catalogue.

        Returns:
            The features, in the order of the catalogue.

        Raises:
            ServiceError: The service could not answer.
        """
        return self._run(_calls.list_features())

    def close(self) -> None:
        """Close the connections. Calls that are under way fail.

        A channel that was given to `from_channel` stays open.
        """
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
            raise _error_mapping.from_call(
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
