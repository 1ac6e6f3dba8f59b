"""What a caller can be answered with instead of a response: one tree.

    CallError
    ├── NotAdmittedError                   A call that is not let in, whatever it asks for. Nothing was charged
    │   ├── OverloadedError                The server has more work than it can hold, is stopping, came to the request too late, or does not trust its clock
    │   ├── UnauthenticatedError           There are no credentials, or they are not known, or they have expired
    │   ├── PermissionDeniedError          The caller's roles do not allow the method
    │   ├── RateLimitedError               The caller is over its rate
    │   ├── NoSuchMethodError              The server has no such method
    │   ├── UnknownServiceError            Health knows no service of that name
    │   ├── RequestMissingError            The call ended without a whole request
    │   ├── RequestOverdueError            The request did not come in time, or not before the server stops
    │   └── TooManyStreamsError            There is no room for one more call that streams, whoever it is from
    ├── InternalError                      Something unforeseen happened
    ├── LedgerError                        A request that the rules reject. Nothing was charged
    │   ├── InvalidFieldError              A field is malformed or out of range, or the request cannot be read
    │   ├── UnknownFeatureError            The feature is not in the catalogue
    │   ├── TransactionNotFoundError       The user has no transaction of that id
    │   ├── InsufficientTokensError        The available tokens do not cover the cost; the attempt was recorded as denied, unless there were many
    │   ├── PriceChangedError              The cost is higher than the request accepts
    │   ├── IdempotencyKeyReusedError      The key is bound to another request of this user
    │   ├── NotRefundableError             The transaction is not a charge that took tokens
    │   ├── RefundExceedsChargeError       The refund is larger than what remains of the charge
    │   ├── BalanceLimitExceededError      The balance would pass its limit
    │   └── TooManyGrantsError             The top-up would open a grant, and as many are open as may be
    ├── StoreUnavailableError              The ledger cannot be reached, or its disk is failing
    │   └── ForeignFormatError             A record has a newer format than this server reads. It was not changed
    └── DamagedRecordError                 A stored record of the user cannot be read, or contradicts another. Nothing was written

All of it is plain data and imports nothing, so that the ledger stays free of gRPC. `api/status.py` is the
only module that makes a gRPC status of it, and has no table that a new class would have to enter.
`make docs` draws this tree and writes `docs/errors.md` from the classes.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

Code = Literal[
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "INTERNAL",
    "DATA_LOSS",
    "UNAVAILABLE",
    "UNAUTHENTICATED",
]
"""The names of gRPC's status codes that calls end with."""


class FieldViolation(NamedTuple):
    """Which field of a request is wrong, and in a sentence what is wrong with it."""

    field: str
    description: str


class CallError(Exception):
    """A call that ends without a response.

    A class that callers can meet sets `code`. The first line of its docstring says when it happens, for
    docs/errors.md.

    Attributes:
        reason: A name of the public enum `ErrorReason`, without its prefix. Empty: the contract has none,
            and the call ends with code and message alone.
        code: The status code that the call ends with.
        remedy: A sentence that says what the caller can do.
        metadata_keys: The keys of `metadata`.
        message: A sentence for the caller. `str()` may differ: it is for the log.
        metadata: What the message says, as values for programs. A value that is None is left out.
        field_violation: The field that is wrong, if it is about one.
        retry_delay_s: Seconds after which to send the request again; None: waiting does not help.
    """

    reason: ClassVar[str] = ""
    code: ClassVar[Code]
    remedy: ClassVar[str]
    metadata_keys: ClassVar[tuple[str, ...]] = ()

    field_violation: FieldViolation | None = None
    retry_delay_s: float | None = None

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = {
            key: str(value) for key, value in metadata.items() if value is not None
        }
        # docs/errors.md shows the keys that are declared, so no other may be sent.
        assert tuple(metadata) == self.metadata_keys


class NotAdmittedError(CallError):
    """A call that is not let in, whatever it asks for. Nothing was charged.

    Attributes:
        shed_cause: In a word what was too much, for those who watch; empty: it was not for load.
    """

    shed_cause: str = ""


class OverloadedError(NotAdmittedError):
    """The server has more work than it can hold, is stopping, came to the request too late, or does not trust its clock.

    Nothing was charged.
    """

    reason = "OVERLOADED"
    code = "UNAVAILABLE"
    remedy = "Nothing was charged: send it again after the delay in `RetryInfo`."
    retry_delay_s: float

    def __init__(self, message: str, retry_delay_s: float, cause: str = "queue") -> None:
        super().__init__(message)
        self.retry_delay_s = retry_delay_s
        self.shed_cause = cause


class InternalError(CallError):
    """Something unforeseen happened.

    Args:
        reference: Under which the log has the whole story: the caller learns nothing else of it.
    """

    reason = "INTERNAL"
    code = "INTERNAL"
    remedy = (
        "Whether it took effect is unknown: send it again with the same key, and if it goes on, give the"
        " operator the `reference`."
    )
    metadata_keys = ("reference",)

    def __init__(self, reference: str) -> None:
        super().__init__(
            "Something unforeseen happened: send the request again with the same idempotency key, and"
            f" if it goes on, give the reference {reference} to the operator.",
            reference=reference,
        )
