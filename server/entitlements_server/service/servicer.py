"""The eleven RPCs. Each builds a command or a query, hands it on, and translates the answer."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1 import resources_pb2
from entitlements_server.engine import MAX_GROUP, Engine
from entitlements_server.ledger.catalogue import Catalogue, access
from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.decide import Outcome, Rejected, Replayed, denial
from entitlements_server.ledger.errors import (
    InvalidFieldError,
    LedgerError,
    TransactionNotFoundError,
)
from entitlements_server.ledger.validation import check_id
from entitlements_server.ledger.values import sequence_of
from entitlements_server.service.guard import Bucket
from entitlements_server.service.messages import (
    account_message,
    feature_message,
    put_access,
    put_transaction,
)
from entitlements_server.service.paging import HistoryQuery
from entitlements_server.service.status import answer
from entitlements_server.stores.interface import Store

_WriteResponse = pb.ConsumeResponse | pb.RefundResponse | pb.TopUpResponse | pb.SetBalanceResponse


class Call(Struct, frozen=True):
    """What an RPC has to know of its call.

    Attributes:
        caller: Name of the authenticated caller, or empty.
        deadline: By the event loop's clock, in seconds; None if there is none.
        bucket: Counts the caller's calls, if it has a rate.
    """

    caller: str = ""
    deadline: float | None = None
    bucket: Bucket | None = None


class Servicer:
    """`entitlements.v1.EntitlementService`. The contract says what each RPC promises.

    Every method raises what the ledger, the engine or the store objects to.
    """

    def __init__(self, engine: Engine, store: Store, catalogue: Callable[[], Catalogue]) -> None:
        self._engine = engine
        self._store = store
        self._catalogue = catalogue

    async def check_access(self, request: pb.CheckAccessRequest, _: Call) -> pb.CheckAccessResponse:
        """Tell whether a user could be charged for a feature."""
        check_id("user_id", request.user_id)
        check_id("feature", request.feature)
        feature = self._catalogue().feature(request.feature)
        account = await self._store.account(request.user_id)
        response = pb.CheckAccessResponse()
        put_access(response.access, access(account, feature))
        return response

    async def batch_check_access(
        self, request: pb.BatchCheckAccessRequest, _: Call
    ) -> pb.BatchCheckAccessResponse:
        """Tell it for several features against one balance."""
        if len(request.features) > MAX_GROUP:
            raise InvalidFieldError("features", f"must name at most {MAX_GROUP} features")
        check_id("user_id", request.user_id)
        catalogue = self._catalogue()
        for feature in request.features:
            check_id("feature", feature)
        named = [catalogue.feature(feature) for feature in request.features]
        account = await self._store.account(request.user_id)
        response = pb.BatchCheckAccessResponse()
        for one in named or catalogue.features:
            put_access(response.access.add(), access(account, one))
        return response

    async def consume(self, request: pb.ConsumeRequest, call: Call) -> pb.ConsumeResponse:
        """Charge for one use of a feature."""
        response = pb.ConsumeResponse()
        await self._write(_consume(request, call), call, response)
        return response

    async def batch_consume(
        self, request: pb.BatchConsumeRequest, call: Call
    ) -> pb.BatchConsumeResponse:
        """Charge for several uses, each on its own."""
        if not 1 <= len(request.requests) <= MAX_GROUP:
            raise InvalidFieldError("requests", f"must hold 1 to {MAX_GROUP} requests")
        attempts: list[Command | LedgerError] = []
        for one in request.requests:
            try:
                attempts.append(_consume(one, call))
            except LedgerError as error:
                attempts.append(error)
        commands = [one for one in attempts if not isinstance(one, LedgerError)]
        outcomes: Sequence[Outcome] = []
        if commands:
            outcomes = await self._engine.submit(commands, call.deadline)
        rest = iter(outcomes)
        response = pb.BatchConsumeResponse()
        for attempt in attempts:
            outcome = Rejected(attempt) if isinstance(attempt, LedgerError) else next(rest)
            _put_result(response.results.add(), outcome)
        return response

    async def refund(self, request: pb.RefundRequest, call: Call) -> pb.RefundResponse:
        """Give back tokens of a charge."""
        command = Refund(
            user_id=request.user_id,
            transaction_id=request.transaction_id,
            amount=request.amount,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
        )
        response = pb.RefundResponse()
        await self._write(command, call, response)
        return response

    async def top_up(self, request: pb.TopUpRequest, call: Call) -> pb.TopUpResponse:
        """Add tokens."""
        command = TopUp(
            user_id=request.user_id,
            amount=request.amount,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
        )
        response = pb.TopUpResponse()
        await self._write(command, call, response)
        return response

    async def set_balance(self, request: pb.SetBalanceRequest, call: Call) -> pb.SetBalanceResponse:
        """Set the balance."""
        command = SetBalance(
            user_id=request.user_id,
            balance=request.balance,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
            caller=call.caller,
        )
        response = pb.SetBalanceResponse()
        await self._write(command, call, response)
        return response

    async def get_account(self, request: pb.GetAccountRequest, _: Call) -> resources_pb2.Account:
        """Read an account."""
        check_id("user_id", request.user_id)
        return account_message(await self._store.account(request.user_id))

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

    async def list_features(self, _: pb.ListFeaturesRequest, __: Call) -> pb.ListFeaturesResponse:
        """Read the catalogue."""
        catalogue = self._catalogue()
        return pb.ListFeaturesResponse(
            features=map(feature_message, catalogue.features), catalogue_version=catalogue.version
        )

    async def _write(self, command: Command, call: Call, response: _WriteResponse) -> None:
        (outcome,) = await self._engine.submit((command,), call.deadline)
        _put_outcome(response, outcome)


def _consume(request: pb.ConsumeRequest, call: Call) -> Consume:
    return Consume(
        user_id=request.user_id,
        feature=request.feature,
        event_id=request.event_id,
        idempotency_key=request.idempotency_key,
        caller=call.caller,
    )


def _put_outcome(response: _WriteResponse, outcome: Outcome) -> None:
    """Write the transaction of an outcome and whether it is a replay, or raise its error."""
    if isinstance(outcome, Rejected):
        raise outcome.error
    denied = denial(outcome.transaction)
    if denied is not None:
        raise denied
    put_transaction(response.transaction, outcome.transaction)
    response.replayed = isinstance(outcome, Replayed)


def _put_result(result: pb.BatchConsumeResult, outcome: Outcome) -> None:
    try:
        _put_outcome(result.response, outcome)
    except LedgerError as error:
        result.error.CopyFrom(answer(error).status)
