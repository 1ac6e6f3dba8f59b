"""Values of the ledger as messages of the contract."""

from google.protobuf.timestamp_pb2 import Timestamp

from entitlements.v1 import resources_pb2 as pb
from entitlements_server.ledger.catalogue import Access, Feature
from entitlements_server.ledger.values import Account, Transaction


def access_message(access: Access) -> pb.Access:
    """Translate an access."""
    return pb.Access(
        feature=access.feature,
        allowed=access.allowed,
        required=access.required,
        available=access.available,
    )


def feature_message(feature: Feature) -> pb.Feature:
    """Translate a feature."""
    return pb.Feature(
        feature=feature.feature,
        cost=feature.cost,
        title=feature.title,
        description=feature.description,
        use_case=feature.use_case,
    )


def account_message(account: Account) -> pb.Account:
    """Translate an account; one without transactions has no times."""
    message = pb.Account(
        user_id=account.user_id,
        balance=account.balance,
        transaction_count=account.transaction_count,
    )
    if account.transaction_count:
        message.create_time.CopyFrom(_timestamp(account.create_time_us))
        message.update_time.CopyFrom(_timestamp(account.update_time_us))
    return message


def transaction_message(transaction: Transaction) -> pb.Transaction:
    """Translate a transaction."""
    return pb.Transaction(
        transaction_id=transaction.transaction_id,
        user_id=transaction.user_id,
        sequence=transaction.sequence,
        # The numbers of the ledger are those of the contract.
        kind=transaction.kind.value,  # type: ignore[arg-type]
        status=transaction.status.value,  # type: ignore[arg-type]
        feature=transaction.feature,
        cost=transaction.cost,
        amount=transaction.amount,
        balance_before=transaction.balance_before,
        balance_after=transaction.balance_after,
        create_time=_timestamp(transaction.create_time_us),
        event_id=transaction.event_id,
        idempotency_key=transaction.idempotency_key,
        reason=transaction.reason,
        refunded_transaction_id=transaction.refunded_transaction_id,
        caller=transaction.caller,
        catalogue_version=transaction.catalogue_version,
    )


def _timestamp(time_us: int) -> Timestamp:
    seconds, microseconds = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1000)
