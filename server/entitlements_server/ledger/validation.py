"""What a well-formed argument is: checked once, where a command or query is built."""

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
    """Require an id or nothing.

    Raises:
        InvalidFieldError: It is neither.
    """
    if value:
        _check_token(field, value, MAX_ID_BYTES)


def check_key(value: str) -> None:
    """Require an idempotency key, 1 to 255 bytes of printable UTF-8 without spaces, or nothing.

    Raises:
        InvalidFieldError: It is neither.
    """
    if value:
        _check_token("idempotency_key", value, MAX_KEY_BYTES)


def check_text(field: str, value: str) -> None:
    """Require at most 500 bytes of printable UTF-8; spaces are welcome.

    Raises:
        InvalidFieldError: It is longer, or holds control characters or line breaks.
    """
    if len(value) > MAX_TEXT_BYTES or _size(value) > MAX_TEXT_BYTES:
        raise InvalidFieldError(field, f"must be at most {MAX_TEXT_BYTES} bytes of UTF-8")
    if not value.isprintable():
        raise InvalidFieldError(field, "must be printable: no control characters, no line breaks")


def check_amount(field: str, value: int, *, least: int = 1) -> None:
    """Require an amount of tokens: `least` to 10^12.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not least <= value <= MAX_AMOUNT:
        raise InvalidFieldError(field, f"must be {least} to {MAX_AMOUNT} tokens, not {value}")


def check_balance(field: str, value: int) -> None:
    """Require a balance: 0 to 2^53 - 1 tokens.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not 0 <= value <= MAX_BALANCE:
        raise InvalidFieldError(field, f"must be 0 to {MAX_BALANCE} tokens, not {value}")


def _check_token(field: str, value: str, most_bytes: int) -> None:
    if not value:
        raise InvalidFieldError(field, f"is required: 1 to {most_bytes} bytes of printable UTF-8")
    if len(value) > most_bytes or _size(value) > most_bytes:
        raise InvalidFieldError(field, f"must be at most {most_bytes} bytes of UTF-8")
    # isprintable() is false for every kind of space but the plain one.
    if not value.isprintable() or " " in value:
        raise InvalidFieldError(field, "must be printable and without spaces")


def _size(value: str) -> int:
    # Most ids are ASCII, where counting characters counts bytes.
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
