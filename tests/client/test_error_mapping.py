"""From a status to an error, and what is tried once only. `grpcio-testing` plays the service."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

import entitlements
from entitlements import EntitlementClient, EntitlementError, ServiceError
from entitlements.v1 import entitlement_service_pb2 as rpc
from entitlements.v1.errors_pb2 import ErrorReason

Fail = Callable[..., EntitlementError]
CONSUME = rpc.DESCRIPTOR.services_by_name["EntitlementService"].methods_by_name["Consume"]

REASONS = {
    "INVALID_FIELD": "InvalidRequestError",
    "UNKNOWN_FEATURE": "UnknownFeatureError",
    "TRANSACTION_NOT_FOUND": "TransactionNotFoundError",
    "INSUFFICIENT_TOKENS": "AccessDeniedError",
    "IDEMPOTENCY_KEY_REUSED": "IdempotencyKeyReusedError",
    "NOT_REFUNDABLE": "NotRefundableError",
    "REFUND_EXCEEDS_CHARGE": "RefundExceedsChargeError",
    "BALANCE_LIMIT_EXCEEDED": "BalanceLimitExceededError",
    "PRICE_CHANGED": "PriceChangedError",
    "TOO_MANY_GRANTS": "TooManyGrantsError",
    "UNAUTHENTICATED": "CallerRefusedError",
    "PERMISSION_DENIED": "CallerRefusedError",
    "RATE_LIMITED": "RateLimitedError",
    "OVERLOADED": "ServiceUnavailableError",
    "STORE_UNAVAILABLE": "ServiceUnavailableError",
    "INTERNAL": "UnexpectedServiceError",
    "RECORD_DAMAGED": "UnexpectedServiceError",
}


def details(*messages: Any) -> tuple[str, bytes]:
    status = Status()
    for message in messages:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return ("grpc-status-details-bin", status.SerializeToString())


@pytest.fixture
def fail() -> Iterator[Fail]:
    """Let one Consume end with a status, and give the error that it raises."""
    channel = grpc_testing.channel([CONSUME.containing_service], grpc_testing.strict_real_time())
    client = EntitlementClient.from_channel(channel, token="s3cret", deadline_s=7)

    def run(code: grpc.StatusCode, message: str = "", *trailers: Any) -> EntitlementError:
        call = pool.submit(client.consume, "ada", "full_distribution")
        metadata, request, call_rpc = channel.take_unary_unary(CONSUME)
        assert ("authorization", "Bearer s3cret") in metadata
        call_rpc.terminate(None, trailers, code, message)
        error = call.exception(timeout=10)
        assert isinstance(error, EntitlementError)
        assert error.idempotency_key == request.idempotency_key != ""
        return error

    with ThreadPoolExecutor() as pool:
        yield run


def test_every_reason_of_the_contract_has_its_error() -> None:
    """A reason that is added to the contract must be added here, too."""
    names = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 - no mapping
    assert set(REASONS) == names - {"UNSPECIFIED"}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_decides_which_error_it_is(fail: Fail, reason: str) -> None:
    """Message, code, reason and metadata arrive as they were sent, whatever the code is."""
    info = ErrorInfo(reason=reason, domain="entitlements", metadata={"reference": "9f1c"})
    error = fail(grpc.StatusCode.ABORTED, "A sentence.", details(info))
    assert type(error) is getattr(entitlements, REASONS[reason])
    assert (str(error), error.reason) == ("A sentence.", reason)
    assert (error.code, error.metadata) == (grpc.StatusCode.ABORTED, {"reference": "9f1c"})


def test_an_unexpected_failure_has_the_reference_to_search_for(fail: Fail) -> None:
    """It is the only link to the log of the service."""
    info = ErrorInfo(reason="INTERNAL", domain="entitlements", metadata={"reference": "9f1c"})
    error = fail(grpc.StatusCode.INTERNAL, "A sentence.", details(info))
    assert isinstance(error, entitlements.UnexpectedServiceError)
    assert error.reference == "9f1c"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (grpc.StatusCode.UNAVAILABLE, "ServiceUnavailableError"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "ServiceUnavailableError"),
        (grpc.StatusCode.CANCELLED, "ServiceUnavailableError"),
        (grpc.StatusCode.UNAUTHENTICATED, "CallerRefusedError"),
        (grpc.StatusCode.PERMISSION_DENIED, "CallerRefusedError"),
        (grpc.StatusCode.FAILED_PRECONDITION, "UnexpectedServiceError"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "UnexpectedServiceError"),
        (grpc.StatusCode.UNIMPLEMENTED, "UnexpectedServiceError"),
        (grpc.StatusCode.UNKNOWN, "UnexpectedServiceError"),
    ],
)
def test_without_a_reason_the_code_decides(fail: Fail, code: grpc.StatusCode, name: str) -> None:
    """What gRPC or a proxy says is never a denial, and the error keeps code and cause."""
    error = fail(code, "connection refused")
    assert type(error) is getattr(entitlements, name)
    assert error.code is code
    assert error.reason == ""
    assert f"({code.name}: connection refused)" in str(error)


@pytest.mark.parametrize(
    "trailer",
    [
        details(ErrorInfo(reason="INSUFFICIENT_TOKENS", domain="elsewhere.example")),
        details(ErrorInfo(reason="FROM_A_NEWER_SERVICE", domain="entitlements")),
        ("grpc-status-details-bin", b"\xff\xff no protobuf"),
        ("something-else", "entirely"),
    ],
    ids=["foreign domain", "unknown reason", "unreadable", "absent"],
)
def test_details_that_say_nothing_to_us_leave_it_to_the_code(fail: Fail, trailer: Any) -> None:
    """Nothing of it is an error of its own."""
    error = fail(grpc.StatusCode.UNAVAILABLE, "", trailer)
    assert isinstance(error, entitlements.ServiceUnavailableError)


def test_the_wait_that_the_service_asks_for_is_reported(fail: Fail) -> None:
    """RetryInfo of 1.5 seconds."""
    info = ErrorInfo(reason="RATE_LIMITED", domain="entitlements")
    wait = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    error = fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too fast.", details(info, wait))
    assert isinstance(error, entitlements.RateLimitedError)
    assert error.retry_after_s == 1.5


@pytest.mark.parametrize("name", sorted(REASONS.values()))
def test_errors_survive_pickling(name: str) -> None:
    """Worker processes hand exceptions to each other."""
    kind = getattr(entitlements, name)
    error = kind("A sentence.", reason="X", metadata={"required": "2"}, idempotency_key="k")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.metadata) == (kind, "A sentence.", {"required": "2"})
    assert copy.idempotency_key == "k"


def test_numbers_that_are_missing_read_as_zero() -> None:
    """An error about an error would hide the first one."""
    error = entitlements.AccessDeniedError("no", metadata={"required": "many"})
    assert (error.required, error.available) == (0, 0)


def test_only_what_may_have_taken_effect_is_a_service_error() -> None:
    """Whoever catches ServiceError has what may be sent again under the same key."""
    again = {
        name for name in REASONS.values() if issubclass(getattr(entitlements, name), ServiceError)
    }
    assert again == {"RateLimitedError", "ServiceUnavailableError", "UnexpectedServiceError"}
