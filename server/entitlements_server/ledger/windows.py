"""Access windows: who was charged for a feature and an event may ask again for a while, for nothing.

A charge that opens a window records when it ends, and binds a name made of feature and event, beside its
idempotency key. The end stays what it was, whatever becomes of the catalogue. A later charge of the same
feature and event binds the name to itself.
"""

from entitlements_server.ledger.catalogue import Feature
from entitlements_server.ledger.commands import Consume
from entitlements_server.ledger.values import Charge, window_name


def window_of(command: Consume) -> str:
    """Return the name of the window that may cover a command, or empty: none may."""
    if command.event_id and command.quantity == 1:
        return window_name(command.feature, command.event_id)
    return ""


def end_of(feature: Feature, command: Consume, now_us: int) -> int:
    """Return when the window ends that a charge opens, microseconds since 1970 UTC; 0: it opens none."""
    if feature.access_us and feature.cost and command.event_id:
        return now_us + feature.access_us
    return 0


def is_open(charge: Charge, now_us: int) -> bool:
    """Return whether the window that a charge opened is open: it has not ended, nor was all given back."""
    return charge.transaction.access_until_us > now_us and charge.remaining > 0
