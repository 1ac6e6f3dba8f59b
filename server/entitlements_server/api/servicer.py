"""The RPCs. Each turns its request into a command or a query, and translates the answer.

They run on the transport's thread and never block: longer work is returned as a write or a coroutine,
see `route.CommandResult`.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1 import resources_pb2
from entitlements_server.api.paging import HistoryQuery
from entitlements_server.api.route import Call, Write
from entitlements_server.api.status import status_message_of
from entitlements_server.api.translate import (
    account_message,
    feature_message,
    labels_of,
    microseconds_of,
    put_access,
    put_transaction,
)
from entitlements_server.engine.clock import wall_clock_us
from entitlements_server.engine.engine import MAX_GROUP
from entitlements_server.errors import CallError
from entitlements_server.ledger.catalogue import Access, Catalogue, access
from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.decide import denial
from entitlements_server.ledger.errors import (
    InvalidFieldError,
    LedgerError,
    TransactionNotFoundError,
)
from entitlements_server.ledger.outcomes import Rejected, Replayed, Unchanged
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.validation import check_id, check_optional_id
from entitlements_server.ledger.values import Account, Charge, sequence_of, window_name
from entitlements_server.ledger.windows import is_open
from entitlements_server.stores.interface import CommandResult, Failed, Store

_Response = TypeVar("_Response", bound=Message)
_Written = TypeVar(
    "_Written", pb.ConsumeResponse, pb.RefundResponse, pb.TopUpResponse, pb.SetBalanceResponse
)


class Servicer:
    """`entitlements.v1.EntitlementService`. The contract says what each RPC promises.

    Every method raises the errors of the ledger and the store, or returns work that does.

    Args:
        store: The ledger.
        catalogue: Returns the current catalogue.
        clock_us: The time, microseconds since 1970 UTC.
        require_keys: Whether writes without an idempotency key are rejected.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Callable[[], Catalogue],
        clock_us: Callable[[], int] = wall_clock_us,
        *,
        require_keys: bool = False,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock_us = clock_us
        self._require_keys = require_keys

    def check_access(
        self, request: pb.CheckAccessRequest, _: Call
    ) -> pb.CheckAccessResponse | Coroutine[Any, Any, pb.CheckAccessResponse]:
        """Return whether a user could be charged for a feature."""
        check_id("user_id", request.user_id)
        check_id("feature", request.feature)
        check_optional_id("event_id", request.event_id)

        def respond(accesses: Sequence[Access]) -> pb.CheckAccessResponse:
            response = pb.CheckAccessResponse()
            put_access(response.access, accesses[0])
            return response

        return self._with_accesses(request.user_id, (request.feature,), request.event_id, respond)

    def batch_check_access(
        self, request: pb.BatchCheckAccessRequest, _: Call
    ) -> pb.BatchCheckAccessResponse | Coroutine[Any, Any, pb.BatchCheckAccessResponse]:
        """Return whether a user could be charged for each of several features."""
        if len(request.features) > MAX_GROUP:
            raise InvalidFieldError("features", f"must name at most {MAX_GROUP} features")
        check_id("user_id", request.user_id)
        for feature in request.features:
            check_id("feature", feature)
        check_optional_id("event_id", request.event_id)

        def respond(accesses: Sequence[Access]) -> pb.BatchCheckAccessResponse:
            response = pb.BatchCheckAccessResponse()
            for one in accesses:
                put_access(response.access.add(), one)
            return response

        return self._with_accesses(request.user_id, request.features, request.event_id, respond)

    def consume(self, request: pb.ConsumeRequest, call: Call) -> Write:
        """Charge for one use of a feature."""
        caller = call.caller

        def respond(outcomes: Sequence[CommandResult]) -> pb.ConsumeResponse:
            return _put_charge(pb.ConsumeResponse(), outcomes[0], caller)

        return Write((self._consume(request, call),), respond)

    def batch_consume(
        self, request: pb.BatchConsumeRequest, call: Call
    ) -> Write | pb.BatchConsumeResponse:
        """Charge for several uses, each independently."""
        if call.bucket is not None:
            # A batch counts as many calls as it has requests. One was already counted.
            call.bucket.owe(max(len(request.requests) - 1, 0))
        if not 1 <= len(request.requests) <= MAX_GROUP:
            raise InvalidFieldError("requests", f"must hold 1 to {MAX_GROUP} requests")
        attempts: list[Command | LedgerError] = []
        for one in request.requests:
            try:
                attempts.append(self._consume(one, call))
            except LedgerError as error:
                attempts.append(error)
        commands = [one for one in attempts if not isinstance(one, LedgerError)]
        caller = call.caller

        def respond(outcomes: Sequence[CommandResult]) -> pb.BatchConsumeResponse:
            rest = iter(outcomes)
            response = pb.BatchConsumeResponse()
            for attempt in attempts:
                outcome = Rejected(attempt) if isinstance(attempt, LedgerError) else next(rest)
                _put_result(response.results.add(), outcome, caller)
            return response

        return Write(commands, respond) if commands else respond(())

    def refund(self, request: pb.RefundRequest, call: Call) -> Write:
        """Give back tokens of a charge."""
        self._check_key(request.idempotency_key)
        command = Refund(
            user_id=request.user_id,
            transaction_id=request.transaction_id,
            amount=request.amount,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
            labels=labels_of(request.labels),
        )
        return Write((command,), _refund_response)

    def top_up(self, request: pb.TopUpRequest, call: Call) -> Write:
        """Add tokens."""
        self._check_key(request.idempotency_key)
        expiry = request.WhichOneof("expiry")
        command = TopUp(
            user_id=request.user_id,
            amount=request.amount,
            expire_time_us=microseconds_of(request.expire_time)
            if expiry == "expire_time"
            else None,
            lifetime_us=microseconds_of(request.lifetime) if expiry == "lifetime" else None,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
            labels=labels_of(request.labels),
        )
        return Write((command,), _top_up_response)

    def set_balance(self, request: pb.SetBalanceRequest, call: Call) -> Write:
        """Set the balance."""
        self._check_key(request.idempotency_key)
        command = SetBalance(
            user_id=request.user_id,
            balance=request.balance,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
            labels=labels_of(request.labels),
        )
        return Write((command,), _set_balance_response)

    def get_account(
        self, request: pb.GetAccountRequest, _: Call
    ) -> resources_pb2.Account | Coroutine[Any, Any, resources_pb2.Account]:
        """Read an account."""
        check_id("user_id", request.user_id)
        return self._with_account(
            request.user_id, lambda account: account_message(account, self._clock_us())
        )

    async def get_transaction(
        self, request: pb.GetTransactionRequest, _: Call
    ) -> resources_pb2.Transaction:
        """Read one transaction."""
        check_id("user_id", request.user_id)
        check_id("transaction_id", request.transaction_id)
        sequence = sequence_of(request.transaction_id)
        found = await self._store.transaction(request.user_id, sequence) if sequence else None
        if found is None or found.transaction_id != request.transaction_id:
            raise TransactionNotFoundError(request.user_id, request.transaction_id)
        message = resources_pb2.Transaction()
        put_transaction(message, found)
        return message

    async def list_transactions(
        self, request: pb.ListTransactionsRequest, _: Call
    ) -> pb.ListTransactionsResponse:
        """Read a page of a history."""
        query = HistoryQuery(
            user_id=request.user_id,
            page_size=request.page_size,
            page_token=request.page_token,
            feature=request.feature,
            kind=request.kind,
            status=request.status,
        )
        transactions, next_page_token = await query.read(self._store)
        response = pb.ListTransactionsResponse(next_page_token=next_page_token)
        for transaction in transactions:
            put_transaction(response.transactions.add(), transaction)
        return response

    def list_features(self, _: pb.ListFeaturesRequest, __: Call) -> pb.ListFeaturesResponse:
        """Read the catalogue."""
        catalogue = self._catalogue()
        return pb.ListFeaturesResponse(
            features=map(feature_message, catalogue.features), catalogue_version=catalogue.version
        )

    def _consume(self, request: pb.ConsumeRequest, call: Call) -> Consume:
        self._check_key(request.idempotency_key)
        return Consume(
            user_id=request.user_id,
            feature=request.feature,
            event_id=request.event_id,
            # A number that is not set is 0, and so are all that earlier clients send.
            quantity=request.quantity or 1,
            max_cost=request.max_cost if request.HasField("max_cost") else None,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
            labels=labels_of(request.labels),
        )

    def _check_key(self, key: str) -> None:
        if self._require_keys and not key:
            raise InvalidFieldError(
                "idempotency_key", "is required: this server rejects writes without one"
            )

    def _with_account(
        self, user_id: str, respond: Callable[[Account], _Response]
    ) -> _Response | Coroutine[Any, Any, _Response]:
        """Answer at once if the account is in memory, otherwise after the store has read it."""
        known = self._store.known_account(user_id)
        if known is None:
            return self._read_account(user_id, respond)
        return respond(known)

    async def _read_account(
        self, user_id: str, respond: Callable[[Account], _Response]
    ) -> _Response:
        return respond(await self._store.account(user_id))

    def _with_accesses(
        self,
        user_id: str,
        features: Sequence[str],
        event_id: str,
        respond: Callable[[Sequence[Access]], _Response],
    ) -> _Response | Coroutine[Any, Any, _Response]:
        """Answer with the accesses of a user to features, or to the whole catalogue if none is named.

        At once if the account is in memory and never had an access window.
        """
        catalogue = self._catalogue()
        if not event_id:
            # Before the account is read: an unknown feature needs no answer of the store.
            named = [catalogue.feature(feature) for feature in features] or catalogue.features

            def without_windows(account: Account) -> _Response:
                now = settled(account, self._clock_us())
                return respond([access(now, feature) for feature in named])

            return self._with_account(user_id, without_windows)
        names = features or [feature.feature_id for feature in catalogue.features]
        known = self._store.known_account(user_id)
        if known is not None and not known.access_until_us:
            return respond(self._accesses(known, catalogue, names, event_id, {}))

        async def with_windows() -> _Response:
            windows = [window_name(feature, event_id) for feature in names]
            account = await self._store.account(user_id)
            opened = await self._store.bound(user_id, windows) if account.access_until_us else {}
            return respond(self._accesses(account, catalogue, names, event_id, opened))

        return with_windows()

    def _accesses(
        self,
        account: Account,
        catalogue: Catalogue,
        features: Sequence[str],
        event_id: str,
        opened: Mapping[str, Charge],
    ) -> list[Access]:
        now_us = self._clock_us()
        now = settled(account, now_us)
        found: list[Access] = []
        for feature in features:
            charge = opened.get(window_name(feature, event_id))
            if charge is not None and is_open(charge, now_us):
                # The window goes on even if the feature has left the catalogue.
                until_us = charge.transaction.access_until_us
                found.append(Access(feature, 0, now.balance, until_us))
            else:
                found.append(access(now, catalogue.feature(feature)))
        return found


def _refund_response(outcomes: Sequence[CommandResult]) -> pb.RefundResponse:
    return _put_outcome(pb.RefundResponse(), outcomes[0])


def _top_up_response(outcomes: Sequence[CommandResult]) -> pb.TopUpResponse:
    return _put_outcome(pb.TopUpResponse(), outcomes[0])


def _set_balance_response(outcomes: Sequence[CommandResult]) -> pb.SetBalanceResponse:
    return _put_outcome(pb.SetBalanceResponse(), outcomes[0])


def _put_outcome(response: _Written, outcome: CommandResult) -> _Written:
    """Set the transaction and `replayed` from an outcome, or raise its error."""
    if isinstance(outcome, (Rejected, Failed)):
        raise outcome.error
    assert not isinstance(outcome, Unchanged)
    denied = denial(outcome.transaction)
    if denied is not None:
        raise denied
    put_transaction(response.transaction, outcome.transaction)
    response.replayed = isinstance(outcome, Replayed)
    return response


def _put_charge(
    response: pb.ConsumeResponse, outcome: CommandResult, caller: str
) -> pb.ConsumeResponse:
    """Do the same for a charge, and say what gives access and what was given back."""
    _put_outcome(response, outcome)
    if isinstance(outcome, Replayed):
        response.refunded = outcome.refunded
        if outcome.covered:
            response.replayed = False
            response.covered = True
            if outcome.transaction.caller != caller:
                # What another caller put there is not for this one to see.
                for field in ("idempotency_key", "labels", "caller"):
                    response.transaction.ClearField(field)
    if response.transaction.HasField("access_until"):
        response.access_until.CopyFrom(response.transaction.access_until)
    return response


def _put_result(result: pb.BatchConsumeResult, outcome: CommandResult, caller: str) -> None:
    try:
        _put_charge(result.response, outcome, caller)
    except CallError as error:
        result.error.CopyFrom(status_message_of(error))
