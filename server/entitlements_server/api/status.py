"""From an error to the status that its caller gets: the only module that knows both."""

import math
from collections.abc import Iterator

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from entitlements_server.errors import CallError, InternalError
from entitlements_server.transport.interface import CallStatus

DOMAIN = "entitlements"
"""The domain of every ErrorInfo."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailer in which gRPC carries a google.rpc.Status."""

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""The trailer by which gRPC clients know when to retry."""


def status_of(error: Exception, reference: str = "") -> CallStatus:
    """Turn an error into how its call ends.

    Args:
        error: Any error. Of one that is no CallError the caller learns nothing.
        reference: Under which the log has the story of such an error.
    """
    answered = error if isinstance(error, CallError) else InternalError(reference)
    code = grpc.StatusCode[answered.code]
    if not answered.reason:
        return CallStatus(code, answered.message)
    trailers: list[tuple[str, str | bytes]] = [
        (DETAILS_KEY, status_message_of(answered).SerializeToString())
    ]
    if answered.retry_delay_s is not None:
        trailers.append((PUSHBACK_KEY, str(_milliseconds(answered.retry_delay_s))))
    return CallStatus(code, answered.message, tuple(trailers))


def status_message_of(error: CallError) -> status_pb2.Status:
    """Turn an error into a status with its details, as it stands in a trailer or a batch."""
    status = status_pb2.Status(code=grpc.StatusCode[error.code].value[0], message=error.message)
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def _details(error: CallError) -> Iterator[Message]:
    if not error.reason:
        return
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    if error.field_violation is not None:
        field, description = error.field_violation
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=field, description=description
        )
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if error.retry_delay_s is not None:
        delay = Duration()
        delay.FromMilliseconds(_milliseconds(error.retry_delay_s))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def _milliseconds(delay_s: float) -> int:
    return math.ceil(delay_s * 1000)
