"""The client of the entitlement service. Tokens buy depth of analysis.

    from entitlements import EntitlementClient, FeatureTier

    with EntitlementClient("127.0.0.1:50051") as client:
        with client.require_tokens(user_id="ada", feature=FeatureTier.FULL_DISTRIBUTION) as tx:
            ...  # the work that was paid for; an exception refunds the tokens

A call that fails never grants access: see `EntitlementError`. The stubs of the contract are in
`entitlements.v1`, the gate for FastAPI in `entitlements.fastapi`.

| module | contents |
|---|---|
| `_sync.py`, `_async.py` | the two clients |
| `_purchase.py`, `_batching.py` | `require_tokens`, and which charges give access; charges that are sent together |
| `_calls.py`, `_values.py` | each call as a value, and what it answers |
| `_channel.py`, `_address.py` | the connection: retries, deadline, TLS, credentials; where it goes |
| `_errors.py`, `_error_mapping.py` | the errors, and which one a failed call is |
| `fastapi.py`, `_problem_details.py` | the gate, and the problem documents it answers with |
| `_version.py` | the version of this release |
| `testing/` | the real service in the process of a test |
| `_charge_headers.py`, `_openapi.py` | what responses and the OpenAPI document tell about charges |
| `cli/` | the command line `entitlements` |
| `v1/` | the generated stubs |
"""

from entitlements._async import AsyncEntitlementClient
from entitlements._channel import Tls
from entitlements._errors import (
    AccessDeniedError,
    AccessEndedError,
    BalanceLimitExceededError,
    CallerRefusedError,
    ChargeRefundedError,
    EntitlementError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotRefundableError,
    PriceChangedError,
    RateLimitedError,
    RefundExceedsChargeError,
    ServiceError,
    ServiceUnavailableError,
    TooManyGrantsError,
    TransactionNotFoundError,
    UnexpectedServiceError,
    UnknownFeatureError,
)
from entitlements._purchase import AsyncPurchase, Purchase
from entitlements._sync import EntitlementClient
from entitlements._values import (
    Access,
    Account,
    ConsumeRequest,
    Draw,
    Feature,
    FeatureTier,
    Grant,
    Transaction,
    TransactionKind,
    TransactionStatus,
)
from entitlements._version import __version__

__all__ = [
    "Access",
    "AccessDeniedError",
    "AccessEndedError",
    "Account",
    "AsyncEntitlementClient",
    "AsyncPurchase",
    "BalanceLimitExceededError",
    "CallerRefusedError",
    "ChargeRefundedError",
    "ConsumeRequest",
    "Draw",
    "EntitlementClient",
    "EntitlementError",
    "Feature",
    "FeatureTier",
    "Grant",
    "IdempotencyKeyReusedError",
    "InvalidRequestError",
    "NotRefundableError",
    "PriceChangedError",
    "Purchase",
    "RateLimitedError",
    "RefundExceedsChargeError",
    "ServiceError",
    "ServiceUnavailableError",
    "Tls",
    "TooManyGrantsError",
    "Transaction",
    "TransactionKind",
    "TransactionNotFoundError",
    "TransactionStatus",
    "UnexpectedServiceError",
    "UnknownFeatureError",
    "__version__",
]
