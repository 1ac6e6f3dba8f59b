"""What a well-formed argument is. Checked once, when a command or query is built.

What a text or an id may contain is said by a fixed table and not by Python's Unicode data, which changes with
its version: what was accepted once stays valid on every server. A character that is not in the table is
accepted, whatever its language, and also if it is assigned only later.
"""

import re

from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.limits import (
    MAX_AMOUNT,
    MAX_BALANCE,
    MAX_ID_BYTES,
    MAX_KEY_BYTES,
    MAX_LABEL_KEY_BYTES,
    MAX_LABEL_VALUE_BYTES,
    MAX_LABELS,
    MAX_PERIOD_US,
    MAX_QUANTITY,
    MAX_TEXT_BYTES,
    MAX_TIME_US,
    MIN_PERIOD_US,
    SECOND_US,
)
from entitlements_server.ledger.values import Labels

HARMFUL = (
    (0x0000, 0x001F, "control characters"),
    (0x007F, 0x009F, "control characters"),
    (0x2028, 0x2029, "line and paragraph separators"),
    (0x202A, 0x202E, "bidirectional embeddings and overrides"),
    (0x2066, 0x2069, "bidirectional isolates"),
    (0xD800, 0xDFFF, "surrogates"),
)
"""First and last code points that no text may contain: they break lines and terminals, show a text in another
order than it has, or are no characters."""

INVISIBLE = (
    (0x0020, 0x0020, "space"),
    (0x00A0, 0x00A0, "no-break space"),
    (0x00AD, 0x00AD, "soft hyphen"),
    (0x034F, 0x034F, "combining grapheme joiner"),
    (0x061C, 0x061C, "Arabic letter mark"),
    (0x115F, 0x1160, "Hangul fillers"),
    (0x1680, 0x1680, "Ogham space mark"),
    (0x17B4, 0x17B5, "Khmer inherent vowels"),
    (0x180B, 0x180F, "Mongolian variation selectors and vowel separator"),
    (0x2000, 0x200A, "spaces of a certain width"),
    (0x200B, 0x200F, "zero-width characters and direction marks"),
    (0x202F, 0x202F, "narrow no-break space"),
    (0x205F, 0x2065, "mathematical space and invisible operators"),
    (0x206A, 0x206F, "deprecated format characters"),
    (0x2800, 0x2800, "blank Braille pattern"),
    (0x3000, 0x3000, "ideographic space"),
    (0x3164, 0x3164, "Hangul filler"),
    (0xFE00, 0xFE0F, "variation selectors"),
    (0xFEFF, 0xFEFF, "byte order mark"),
    (0xFFA0, 0xFFA0, "halfwidth Hangul filler"),
    (0xFFF0, 0xFFFB, "annotation marks, and what is reserved for such"),
    (0x1BCA0, 0x1BCA3, "shorthand format controls"),
    (0x1D173, 0x1D17A, "musical format controls"),
    (0xE0000, 0xE0FFF, "tags and variation selectors"),
)
"""First and last code points that ids and keys must not contain either: two ids that look alike must be the same.
They are spaces, and what Unicode gives the property Default_Ignorable_Code_Point. Texts may contain them: French,
Japanese and Persian do."""


def _any_of(*tables: tuple[tuple[int, int, str], ...]) -> re.Pattern[str]:
    ranges = (f"\\U{first:08x}-\\U{last:08x}" for table in tables for first, last, _ in table)
    return re.compile(f"[{''.join(ranges)}]")


_LABEL_KEY = re.compile(rf"[a-z0-9._-]{{1,{MAX_LABEL_KEY_BYTES}}}")
_HARMFUL = _any_of(HARMFUL)
_NOT_IN_IDS = _any_of(HARMFUL, INVISIBLE)


def check_id(field: str, value: str) -> None:
    """Require an id: 1 to 128 bytes of UTF-8, without spaces or invisible characters.

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
    """Require an idempotency key: empty, or like an id, with 1 to 255 bytes.

    Raises:
        InvalidFieldError: It is not one.
    """
    if value:
        _check_token("idempotency_key", value, MAX_KEY_BYTES)


def check_text(field: str, value: str, max_bytes: int = MAX_TEXT_BYTES) -> None:
    """Require at most so many bytes of UTF-8 on one line. Every kind of space is allowed.

    Raises:
        InvalidFieldError: It is longer, or has a character that is in `HARMFUL`.
    """
    if len(value) > max_bytes or _size(value) > max_bytes:
        raise InvalidFieldError(field, f"must be at most {max_bytes} bytes of UTF-8")
    found = _HARMFUL.search(value)
    if found:
        raise InvalidFieldError(
            field,
            f"must not contain {_named(found[0])}: no control characters, no line breaks, no"
            " bidirectional overrides",
        )


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


def check_quantity(value: int) -> None:
    """Require a quantity: 1 to 10^6 uses.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not 1 <= value <= MAX_QUANTITY:
        raise InvalidFieldError("quantity", f"must be 1 to {MAX_QUANTITY} uses, not {value}")


def check_expire_time(value_us: int) -> None:
    """Require a time that tokens can expire at; whether it is in the future is for the rules to say.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not 1 <= value_us <= MAX_TIME_US:
        raise InvalidFieldError("expire_time", "must be after 1970 and before the year 2255")


def check_period(field: str, value_us: int) -> None:
    """Require a period: 1 second to 36,500 days.

    Raises:
        InvalidFieldError: It is out of range.
    """
    if not MIN_PERIOD_US <= value_us <= MAX_PERIOD_US:
        days = MAX_PERIOD_US // (86_400 * SECOND_US)
        raise InvalidFieldError(field, f"must be 1 second to {days} days")


def check_labels(labels: Labels) -> None:
    """Require at most 8 labels with keys of `a-z`, `0-9`, `.`, `_` and `-`.

    Raises:
        InvalidFieldError: There are more, or a key or value is malformed.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidFieldError("labels", f"must have at most {MAX_LABELS} entries")
    for key, value in labels:
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidFieldError(
                "labels",
                f"must have keys of 1 to {MAX_LABEL_KEY_BYTES} of the characters a-z, 0-9, '.', '_'"
                " and '-'",
            )
        check_text("labels", value, MAX_LABEL_VALUE_BYTES)


def _check_token(field: str, value: str, max_bytes: int) -> None:
    if not value:
        raise InvalidFieldError(
            field, f"is required: 1 to {max_bytes} bytes of UTF-8 without spaces"
        )
    if len(value) > max_bytes or _size(value) > max_bytes:
        raise InvalidFieldError(field, f"must be at most {max_bytes} bytes of UTF-8")
    # Most are plain ASCII, for which `isprintable` says the same in every version, and sooner.
    if value.isascii() and value.isprintable() and " " not in value:
        return
    found = _NOT_IN_IDS.search(value)
    if found:
        raise InvalidFieldError(
            field, f"must not contain {_named(found[0])}: no spaces, no invisible characters"
        )


def _named(character: str) -> str:
    # Never the character itself: it would do its harm in the message.
    return f"U+{ord(character):04X}"


def _size(value: str) -> int:
    # Most ids are ASCII: as many bytes as characters.
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
