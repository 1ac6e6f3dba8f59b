"""What a decision depends on besides the ledger's contents."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from entitlements_server.ledger.catalogue import Catalogue
from entitlements_server.ledger.limits import SECOND_US


def new_salt() -> str:
    """Return a salt for the chain of a new account: 128 random bits."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the operator chooses about the rules.

    Attributes:
        refund_grace_us: How long tokens last that come back to a lapsed grant, microseconds.
        max_denials: Denials that are recorded of a user in a minute; 0: none.
    """

    refund_grace_us: int = 7 * 86_400 * SECOND_US
    max_denials: int = 60


DEFAULTS = Choices()
"""What holds where the operator has chosen nothing."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a decision depends on besides the ledger's contents.

    Attributes:
        catalogue: The current prices.
        now_us: The time, microseconds since 1970 UTC. If the clock was set back, the account's
            newest time is recorded instead, so that history never runs backwards, and this time
            is recorded as the decision's own.
        choices: What the operator chooses.
        new_salt: Makes the salt of a new account.
    """

    catalogue: Catalogue
    now_us: int
    choices: Choices = DEFAULTS
    new_salt: Callable[[], str] = new_salt
