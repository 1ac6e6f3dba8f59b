"""What a key answers that is bound already: the same request again, or another one."""

from entitlements_server.ledger.commands import (
    Command,
    Consume,
    Refund,
    SetBalance,
    Settle,
    TopUp,
)
from entitlements_server.ledger.errors import IdempotencyKeyReusedError
from entitlements_server.ledger.outcomes import Outcome, Rejected, Replayed
from entitlements_server.ledger.values import Charge, Facts, Kind, Transaction


def replay(bound: Transaction, facts: Facts, command: Command) -> Outcome:
    """Answer a command whose key is bound.

    Args:
        bound: The transaction that the key is bound to.
        facts: With what was refunded.
        command: The command.
    """
    field = _difference(bound, facts.charge, command)
    if field is None:
        return Replayed(bound, facts.refunded)
    return Rejected(
        IdempotencyKeyReusedError(
            idempotency_key=command.idempotency_key,
            field=field,
            transaction_id=bound.transaction_id,
        )
    )


def _difference(bound: Transaction, charge: Charge | None, command: Command) -> str | None:
    """Name the first field in which `command` differs from the request that made `bound`."""
    compared: tuple[tuple[str, object, object], ...]
    match command:
        case Consume():
            compared = (
                ("kind", bound.kind, Kind.CONSUME),
                ("feature", bound.feature, command.feature),
                ("event_id", bound.event_id, command.event_id),
                ("quantity", bound.quantity or 1, command.quantity),
            )
        case Refund():
            compared = (
                ("kind", bound.kind, Kind.REFUND),
                ("transaction_id", bound.refunded_transaction_id, command.transaction_id),
                ("amount", bound.amount, command.amount or _all_that_remained(bound, charge)),
                ("reason", bound.reason, command.reason),
            )
        case TopUp():
            compared = (
                ("kind", bound.kind, Kind.TOP_UP),
                ("amount", bound.amount, command.amount),
                ("expire_time", bound.expire_time_us, command.expire_time_us or 0),
                ("lifetime", bound.lifetime_us, command.lifetime_us or 0),
                ("reason", bound.reason, command.reason),
            )
        case SetBalance():
            compared = (
                ("kind", bound.kind, Kind.ADJUSTMENT),
                ("balance", bound.balance_after, command.balance),
                ("reason", bound.reason, command.reason),
            )
        case Settle():
            compared = ()  # it has no key
    return next((field for field, then, now in compared if then != now), None)


def _all_that_remained(bound: Transaction, charge: Charge | None) -> int:
    """Return the amount of a refund of all that remained, if `bound` may have been one; else 0.

    Only the refund that completed the charge may have been one: it is the newest, and nothing
    remains after it.
    """
    completed = charge is not None and not charge.remaining and charge.last_refund == bound
    return bound.amount if completed else 0
