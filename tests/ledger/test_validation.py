"""What a well-formed argument is."""

import sys
import unicodedata
from collections.abc import Callable

import pytest

from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.limits import MAX_AMOUNT, MAX_BALANCE
from entitlements_server.ledger.validation import check_id

COMMANDS: dict[str, Callable[[str], object]] = {
    "user_id": lambda text: TopUp(user_id=text, amount=1),
    "feature": lambda text: Consume(user_id="ada", feature=text),
    "event_id": lambda text: Consume(user_id="ada", feature="f", event_id=text),
    "transaction_id": lambda text: Refund(user_id="ada", transaction_id=text),
    "idempotency_key": lambda text: TopUp(user_id="ada", amount=1, idempotency_key=text),
    "reason": lambda text: TopUp(user_id="ada", amount=1, reason=text),
}
BYTES = {"idempotency_key": 255, "reason": 500}
SPACES = [" ", "\u00a0", "\u2003", "\u202f", "\u3000"]
INVISIBLE = [
    "\u00ad",
    "\u115f",
    "\u200b",
    "\u200c",
    "\u200e",
    "\u2060",
    "\ufe0f",
    "\ufeff",
    "\U000e0041",
]
HARMFUL = [
    "\x00",
    "\t",
    "\n",
    "\x1b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\ud800",
]
LATER = "\u0378"  # Not assigned in Unicode 16.


@pytest.mark.parametrize("field", COMMANDS)
@pytest.mark.parametrize("letter", ["x", "é", "語", "🦉"])
def test_a_text_may_be_as_long_as_its_limit_in_bytes_and_not_longer(
    field: str, letter: str
) -> None:
    most = BYTES.get(field, 128)
    longest = letter * (most // len(letter.encode()))
    COMMANDS[field](longest)
    with pytest.raises(InvalidFieldError, match=f"at most {most} bytes") as caught:
        COMMANDS[field](longest + letter)
    assert caught.value.metadata == {"field": field}


@pytest.mark.parametrize("field", ["user_id", "feature", "transaction_id"])
def test_an_id_is_required(field: str) -> None:
    with pytest.raises(InvalidFieldError, match="is required"):
        COMMANDS[field]("")


@pytest.mark.parametrize("field", ["event_id", "idempotency_key", "reason"])
def test_what_is_optional_may_be_empty(field: str) -> None:
    COMMANDS[field]("")


@pytest.mark.parametrize("field", [field for field in COMMANDS if field != "reason"])
@pytest.mark.parametrize("letter", SPACES + INVISIBLE + HARMFUL)
def test_ids_and_keys_hold_neither_spaces_nor_what_is_invisible(field: str, letter: str) -> None:
    for text in (letter, f"a{letter}b", f"{letter}a", f"a{letter}"):
        with pytest.raises(InvalidFieldError, match="no spaces, no invisible characters") as caught:
            COMMANDS[field](text)
        assert f"U+{ord(letter):04X}" in str(caught.value)
        assert letter not in str(caught.value).replace(" ", "") or letter == " "


@pytest.mark.parametrize("letter", HARMFUL)
def test_a_reason_holds_nothing_that_harms_who_reads_it(letter: str) -> None:
    with pytest.raises(InvalidFieldError, match="must not contain") as caught:
        TopUp(user_id="ada", amount=1, reason=f"a{letter}b")
    assert f"U+{ord(letter):04X}" in str(caught.value)
    assert letter not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        " the data came late ",
        "Remboursé\u00a0: 20\u202f€",
        "見直し\u3000返金",
        "می\u200cخواهم",  # noqa: RUF001  # Persian
        "\u200eabc\u200f",
        "👩\u200d🚀❤\ufe0f",
        *SPACES,
    ],
)
def test_a_reason_may_be_written_in_any_language(text: str) -> None:
    assert TopUp(user_id="ada", amount=1, reason=text).reason == text


@pytest.mark.parametrize("text", ["a@b.example", "{}", "'\"\\", "%s", "語", "🦉", "0", "null", "-"])
def test_any_visible_text_without_spaces_is_an_id(text: str) -> None:
    assert TopUp(user_id=text, amount=1).user_id == text


@pytest.mark.parametrize("letter", [LATER, "\ue000", "\U0001fae8"])
def test_what_is_accepted_does_not_depend_on_the_version_of_python(letter: str) -> None:
    """Characters that are assigned only later, privately, or since some version."""
    assert TopUp(user_id=f"a{letter}", amount=1, reason=letter).reason == letter


def test_the_table_holds_every_space_and_control_that_python_knows_of() -> None:
    """Python may know more than the table in some years; that is then for people to decide."""
    kinds = {letter: unicodedata.category(letter) for letter in map(chr, range(sys.maxunicode + 1))}
    for letter in (one for one, kind in kinds.items() if kind in {"Cc", "Cs", "Zl", "Zp", "Zs"}):
        with pytest.raises(InvalidFieldError):
            check_id("user_id", letter)


@pytest.mark.parametrize("amount", [1, MAX_AMOUNT])
def test_a_top_up_is_1_to_10_to_the_12(amount: int) -> None:
    assert TopUp(user_id="ada", amount=amount).amount == amount


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1, 2**63 - 1, -(2**63)])
def test_a_top_up_out_of_range_is_rejected_saying_the_range(amount: int) -> None:
    with pytest.raises(InvalidFieldError, match=f"must be 1 to {10**12} tokens, not {amount}"):
        TopUp(user_id="ada", amount=amount)


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT + 1])
def test_a_refund_is_0_to_10_to_the_12(amount: int) -> None:
    Refund(user_id="ada", transaction_id="1-a", amount=0)
    Refund(user_id="ada", transaction_id="1-a", amount=MAX_AMOUNT)
    with pytest.raises(InvalidFieldError, match="'amount' must be 0 to"):
        Refund(user_id="ada", transaction_id="1-a", amount=amount)


@pytest.mark.parametrize("balance", [-1, MAX_BALANCE + 1])
def test_a_balance_is_0_to_2_to_the_53_less_1(balance: int) -> None:
    SetBalance(user_id="ada", balance=0)
    SetBalance(user_id="ada", balance=2**53 - 1)
    with pytest.raises(InvalidFieldError, match="'balance' must be 0 to 9007199254740991"):
        SetBalance(user_id="ada", balance=balance)


def test_the_first_field_that_is_wrong_is_named() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        Consume(user_id="", feature="")
    assert caught.value.metadata["field"] == "user_id"
