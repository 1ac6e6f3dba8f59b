"""What the empty servers answer: the bytes of a charge, so that clients decode as much as ours give them."""

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.resources_pb2 import Transaction, TransactionKind, TransactionStatus

_TRANSACTION = Transaction(
    transaction_id="tx_0123456789abcdef0123456789abcdef",
    user_id="user-00042",
    sequence=1234,
    kind=TransactionKind.TRANSACTION_KIND_CONSUME,
    status=TransactionStatus.TRANSACTION_STATUS_SUCCESS,
    feature="full_distribution",
    cost=2,
    amount=-2,
    balance_before=999_997_534,
    balance_after=999_997_532,
    event_id="event-123",
    idempotency_key="0000002a-0123456789abcdef0123456789ab",
    caller="analytics-web",
    catalogue_version="0123456789ab",
)
_TRANSACTION.create_time.FromMicroseconds(1_800_000_000_123_456)

ANSWER: bytes = pb.ConsumeResponse(transaction=_TRANSACTION).SerializeToString()
"""A `ConsumeResponse` as the service gives it, serialized once: about 200 bytes."""
