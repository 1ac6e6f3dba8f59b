"""The RPCs. Each turns its request into a command or a query, and translates the answer.

They run on the transport's thread and never block: longer work is returned as a write or a coroutine,
see `route.CommandResult`.
"""

import time
from collections.abc import Callable, Coroutine, Sequence
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
    put_access,
    put_transaction,
)
from entitlements_server.engine import MAX_GROUP
from entitlements_server.errors import CallError
from entitlements_server.ledger.catalogue import Catalogue, Feature, access
from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.decide import Rejected, Replayed, denial
from entitlements_server.ledger.errors import (
    InvalidFieldError,
    LedgerError,
    TransactionNotFoundError,
)
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.validation import check_id
from entitlements_server.ledger.values import Account, sequence_of
from entitlements_server.stores.interface import CommandResult, Failed, Store

_Response = TypeVar("_Response", bound=Message)
_Written = TypeVar(
    "_Written", pb.ConsumeResponse, pb.RefundResponse, pb.TopUpResponse, pb.SetBalanceResponse
)


class Servicer:
    """`entitlements.v1.EntitlementService`. The contract says what each RPC promises.

    Every method raises the errors of the ledger and the store, or returns work that does.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Callable[[], Catalogue],
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock_us = clock_us

    def check_access(
        self, request: pb.CheckAccessRequest, _: Call
    ) -> pb.CheckAccessResponse | Coroutine[Any, Any, pb.CheckAccessResponse]:
        """Return whether a user could be charged for a feature."""
        check_id("user_id", request.user_id)
        check_id("feature", request.feature)
        feature = self._catalogue().feature(request.feature)

        def respond(account: Account) -> pb.CheckAccessResponse:
            response = pb.CheckAccessResponse()
            put_access(response.access, access(account, feature))
            return response

        return self._with_account(request.user_id, respond)

    def batch_check_access(
        self, request: pb.BatchCheckAccessRequest, _: Call
    ) -> pb.BatchCheckAccessResponse | Coroutine[Any, Any, pb.BatchCheckAccessResponse]:
        """Return whether a user could be charged for each of several features."""
        if len(request.features) > MAX_GROUP:
            raise InvalidFieldError("features", f"must name at most {MAX_GROUP} features")
        check_id("user_id", request.user_id)
        catalogue = self._catalogue()
        for feature in request.features:
            check_id("feature", feature)
        named = [catalogue.feature(feature) for feature in request.features]
        features: Sequence[Feature] = named or catalogue.features

        def respond(account: Account) -> pb.BatchCheckAccessResponse:
            response = pb.BatchCheckAccessResponse()
            for one in features:
                put_access(response.access.add(), access(account, one))
            return response

        return self._with_account(request.user_id, respond)

    def consume(self, request: pb.ConsumeRequest, call: Call) -> Write:
        """Charge for one use of a feature."""
        return Write((_consume(request, call),), _consume_response)

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
                attempts.append(_consume(one, call))
            except LedgerError as error:
                attempts.append(error)
        commands = [one for one in attempts if not isinstance(one, LedgerError)]

        def respond(outcomes: Sequence[CommandResult]) -> pb.BatchConsumeResponse:
            rest = iter(outcomes)
            response = pb.BatchConsumeResponse()
            for attempt in attempts:
                outcome = Rejected(attempt) if isinstance(attempt, LedgerError) else next(rest)
                _put_result(response.results.add(), outcome)
            return response

        return Write(commands, respond) if commands else respond(())

    def refund(self, request: pb.RefundRequest, call: Call) -> Write:
        """Give back tokens of a charge."""
        command = Refund(
            user_id=request.user_id,
            transaction_id=request.transaction_id,
            amount=request.amount,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
        )
        return Write((command,), _refund_response)

    def top_up(self, request: pb.TopUpRequest, call: Call) -> Write:
        """Add tokens."""
        command = TopUp(
            user_id=request.user_id,
            amount=request.amount,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
        )
        return Write((command,), _top_up_response)

    def set_balance(self, request: pb.SetBalanceRequest, call: Call) -> Write:
        """Set the balance."""
        command = SetBalance(
            user_id=request.user_id,
            balance=request.balance,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
        )
        return Write((command,), _set_balance_response)

    def get_account(
        self, request: pb.GetAccountRequest, _: Call
    ) -> resources_pb2.Account | Coroutine[Any, Any, resources_pb2.Account]:
        """Read an account."""
        check_id("user_id", request.user_id)
        return self._with_account(request.user_id, account_message)

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

    def _with_account(
        self, user_id: str, respond: Callable[[Account], _Response]
    ) -> _Response | Coroutine[Any, Any, _Response]:
        """Answer at once if the account is in memory, otherwise after the store has read it."""
        known = self._store.known_account(user_id)
        if known is None:
            return self._read_account(user_id, respond)
        return respond(settled(known, self._clock_us()))

    async def _read_account(
        self, user_id: str, respond: Callable[[Account], _Response]
    ) -> _Response:
        return respond(settled(await self._store.account(user_id), self._clock_us()))


def _consume(request: pb.ConsumeRequest, call: Call) -> Consume:
    return Consume(
        user_id=request.user_id,
        feature=request.feature,
        event_id=request.event_id,
        idempotency_key=request.idempotency_key,
        caller=call.caller,
    )


def _consume_response(outcomes: Sequence[CommandResult]) -> pb.ConsumeResponse:
    return _put_outcome(pb.ConsumeResponse(), outcomes[0])


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
    denied = denial(outcome.transaction)
    if denied is not None:
        raise denied
    put_transaction(response.transaction, outcome.transaction)
    response.replayed = isinstance(outcome, Replayed)
    return response


def _put_result(result: pb.BatchConsumeResult, outcome: CommandResult) -> None:
    try:
        _put_outcome(result.response, outcome)
    except CallError as error:
        result.error.CopyFrom(status_message_of(error))
