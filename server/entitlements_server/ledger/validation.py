"""What a well-formed argument is. Checked once, when a command or query is built."""

from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.limits import (
    MAX_AMOUNT,
    MAX_BALANCE,
    MAX_ID_BYTES,
    MAX_KEY_BYTES,
    MAX_TEXT_BYTES,
)


def check_id(field: str, value: str) -> None:
    """Require an id: 1 to 128 bytes of printable UTF-8 without spaces.

    Raises:
        InvalidFieldError: It is not one.
    """
    _check_token(field, value, MAX_ID_BYTES)


def check_optional_id(field: str, value: str) -> None:
    """Require an id or an empty text.

    Raises:
        InvalidFieldError: It is neither.
    """
    if value:
        _check_token(field, value, MAX_ID_BYTES)


def check_key(value: str) -> None:
    """Require an idempotency key: empty, or 1 to 255 bytes of printable UTF-8 without spaces.

    Raises:
        InvalidFieldError: It is not one.
    """
    if value:
        _check_token("idempotency_key", value, MAX_KEY_BYTES)


def check_text(field: str, value: str) -> None:
    """Require at most 500 bytes of printable UTF-8; spaces are allowed.

    Raises:
        InvalidFieldError: It is longer, or has control characters or line breaks.
    """
    if len(value) > MAX_TEXT_BYTES or _size(value) > MAX_TEXT_BYTES:
        raise InvalidFieldError(field, f"must be at most {MAX_TEXT_BYTES} bytes of UTF-8")
    if not value.isprintable():
        raise InvalidFieldError(field, "must be printable: no control characters, no line breaks")


def check_amount(field: str, value: int, *, minimum: int = 1) -> None:
    """Require an amount of tokens: `minimum` to 10^12.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not minimum <= value <= MAX_AMOUNT:
        raise InvalidFieldError(field, f"must be {minimum} to {MAX_AMOUNT} tokens, not {value}")


def check_balance(field: str, value: int) -> None:
    """Require a balance: 0 to 2^53 - 1 tokens.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not 0 <= value <= MAX_BALANCE:
        raise InvalidFieldError(field, f"must be 0 to {MAX_BALANCE} tokens, not {value}")


def _check_token(field: str, value: str, max_bytes: int) -> None:
    if not value:
        raise InvalidFieldError(field, f"is required: 1 to {max_bytes} bytes of printable UTF-8")
    if len(value) > max_bytes or _size(value) > max_bytes:
        raise InvalidFieldError(field, f"must be at most {max_bytes} bytes of UTF-8")
    # isprintable() is false for every kind of space except the plain one.
    if not value.isprintable() or " " in value:
        raise InvalidFieldError(field, "must be printable and without spaces")


def _size(value: str) -> int:
    # Most ids are ASCII: as many bytes as characters.
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
