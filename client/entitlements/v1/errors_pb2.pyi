from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_FIELD: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_FEATURE: _ClassVar[ErrorReason]
    ERROR_REASON_TRANSACTION_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_INSUFFICIENT_TOKENS: _ClassVar[ErrorReason]
    ERROR_REASON_IDEMPOTENCY_KEY_REUSED: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_REFUNDABLE: _ClassVar[ErrorReason]
    ERROR_REASON_REFUND_EXCEEDS_CHARGE: _ClassVar[ErrorReason]
    ERROR_REASON_BALANCE_LIMIT_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_UNAUTHENTICATED: _ClassVar[ErrorReason]
    ERROR_REASON_PERMISSION_DENIED: _ClassVar[ErrorReason]
    ERROR_REASON_RATE_LIMITED: _ClassVar[ErrorReason]
    ERROR_REASON_OVERLOADED: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_RECORD_DAMAGED: _ClassVar[ErrorReason]
    ERROR_REASON_PRICE_CHANGED: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_GRANTS: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_FIELD: ErrorReason
ERROR_REASON_UNKNOWN_FEATURE: ErrorReason
ERROR_REASON_TRANSACTION_NOT_FOUND: ErrorReason
ERROR_REASON_INSUFFICIENT_TOKENS: ErrorReason
ERROR_REASON_IDEMPOTENCY_KEY_REUSED: ErrorReason
ERROR_REASON_NOT_REFUNDABLE: ErrorReason
ERROR_REASON_REFUND_EXCEEDS_CHARGE: ErrorReason
ERROR_REASON_BALANCE_LIMIT_EXCEEDED: ErrorReason
ERROR_REASON_UNAUTHENTICATED: ErrorReason
ERROR_REASON_PERMISSION_DENIED: ErrorReason
ERROR_REASON_RATE_LIMITED: ErrorReason
ERROR_REASON_OVERLOADED: ErrorReason
ERROR_REASON_STORE_UNAVAILABLE: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_RECORD_DAMAGED: ErrorReason
ERROR_REASON_PRICE_CHANGED: ErrorReason
ERROR_REASON_TOO_MANY_GRANTS: ErrorReason
