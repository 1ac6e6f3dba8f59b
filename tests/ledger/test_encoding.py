"""How accounts and transactions are stored: every field under its number in the contract."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import fields, replace

from entitlements.v1 import resources_pb2 as pb
from entitlements_server.ledger.encoding import (
    decode_account,
    decode_accounts,
    decode_transaction,
    decode_transactions,
    encode_account,
    encode_transaction,
)
from entitlements_server.ledger.values import Account, Draw, Draws, Kind, Status, Transaction
from support.fields import ACCOUNT, TRANSACTION, names_of, sample

PERSONAL = ("user_id", "idempotency_key", "reason", "caller", "labels", "salt")


def members(stored: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(stored)
    return found


@pytest.mark.parametrize("name", names_of(Transaction))
def test_each_field_of_a_transaction_is_stored_under_its_number_and_comes_back(name: str) -> None:
    number = {one.name: one.encode_name for one in fields(Transaction)}[name]
    one = replace(TRANSACTION, **sample(Transaction, name))
    assert number in members(encode_transaction(one))
    assert decode_transaction(encode_transaction(one)) == one
    assert decode_transactions(b"[%b]" % encode_transaction(one)) == [one]


@pytest.mark.parametrize("name", names_of(Account))
def test_each_field_of_an_account_is_stored_under_its_number_and_comes_back(name: str) -> None:
    number = {one.name: one.encode_name for one in fields(Account)}[name]
    one = replace(ACCOUNT, **sample(Account, name))
    assert number in members(encode_account(one))
    assert decode_account(encode_account(one)) == one
    assert decode_accounts(b"[%b]" % encode_account(one)) == [one]


@pytest.mark.parametrize("value", [Transaction, Account])
def test_the_numbers_are_those_of_the_contract_or_reserved_there(value: Any) -> None:
    descriptor = getattr(pb, value.__name__).DESCRIPTOR
    contract = {one.name: one.number for one in descriptor.fields}
    for one in fields(value):
        if one.name == "carried":
            continue
        number = int(one.encode_name)
        if number > 100:
            assert number <= 120
            assert one.name not in contract
        else:
            assert contract[one.name.removesuffix("_us")] == number
    derived = {
        Transaction: {"transaction_id", "balance_before", "available"},
        Account: {"available", "next_expire_time", "next_expire_amount"},
    }[value]
    mine = {one.name.removesuffix("_us") for one in fields(value)}
    assert contract.keys() - mine == derived


def test_impersonal_fields_come_first_and_then_personal_ones_each_in_ascending_order() -> None:
    every: dict[str, Any] = {}
    for name in names_of(Transaction):
        every |= sample(Transaction, name)
    stored = encode_transaction(replace(TRANSACTION, **every))
    numbers = [int(number) for number in members(stored)]
    at = numbers.index(2)
    assert numbers[:at] == sorted(numbers[:at])
    assert numbers[at:] == sorted(numbers[at:])
    by_number = {int(one.encode_name): one.name for one in fields(Transaction) if one.name in every}
    assert [by_number[number] for number in numbers[at:]] == list(PERSONAL)


def test_no_impersonal_field_is_an_object_for_its_members_might_be_taken_for_personal_ones() -> (
    None
):
    impersonal = [one for one in fields(Transaction) if one.name not in (*PERSONAL, "carried")]
    assert {one.type for one in impersonal} <= {int, str, Kind, Status, Draws}
    assert encode_transaction(replace(TRANSACTION, draws=(Draw("g", 1, 2),))).count(b'[["g",1,2]]')


def test_a_field_that_is_its_default_is_not_stored_however_it_was_made() -> None:
    """Or the digest of a row would depend on how its empty text came about."""
    empties = ["", "x"[:0], "".join([]), b"".decode(), "", "ab".replace("ab", ""), "x" * 0]
    zeros = [0, 5 - 5, int("0"), 10**20 - 10**20]
    for empty in empties:
        assert "14" not in members(encode_transaction(replace(TRANSACTION, reason=empty)))
    for zero in zeros:
        assert "7" not in members(encode_transaction(replace(TRANSACTION, cost=zero)))


@pytest.mark.parametrize("value", [Transaction, Account])
def test_every_default_is_empty_or_zero_as_only_those_differ_from_what_is_set(
    value: Any,
) -> None:
    """A default is recognised as the very object, and Python has each of these just once."""
    defaults = [one.default for one in fields(value) if one.default is not msgspec.NODEFAULT]
    assert {repr(default) for default in defaults} <= {"0", "''", "b''", "()"}


def test_a_transaction_with_members_of_a_newer_version_is_carried_to_the_byte() -> None:
    stored = encode_transaction(TRANSACTION)
    newer = stored.replace(b',"2":', b',"60":["a",1.50,{"b":"\\u0007"}],"2":')[:-1] + b',"61":"x"}'
    read = decode_transaction(newer)
    assert encode_transaction(read) == newer
    assert replace(read, carried=b"") == TRANSACTION
    assert decode_transactions(b"[%b,%b]" % (newer, stored)) == [read, TRANSACTION]
    assert decode_transaction(newer.decode()) == read


def test_an_account_with_members_of_a_newer_version_keeps_them_when_it_changes() -> None:
    newer = encode_account(ACCOUNT)[:-1] + b',"60":{"a":[1]},"61":1.50}'
    read = decode_account(newer)
    assert (read.user_id, read.balance) == (ACCOUNT.user_id, ACCOUNT.balance)
    changed = encode_account(replace(read, balance=77))
    assert b'"60":{"a":[1]}' in changed
    assert b'"61":1.50' in changed
    assert decode_account(changed).balance == 77
    assert decode_accounts(b"[%b]" % newer) == [read]


def test_a_kind_that_only_a_newer_version_knows_is_read_as_its_number() -> None:
    stored = encode_transaction(replace(TRANSACTION, kind=Kind(77)))
    read = decode_transaction(stored)
    assert read.kind == 77
    assert read.kind is Kind(77)
    assert not read.kind.is_known
    assert Kind.CONSUME.is_known
    assert list(Kind) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "damaged", [b"{", b"[]", b'{"3":"x"}', b'{"3":1,"4":0,"5":1,"2":"ada"}', b'{"99":1}', b"null"]
)
def test_what_is_damaged_is_no_transaction(damaged: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_transaction(damaged)
    with pytest.raises(msgspec.DecodeError):
        decode_transactions(b"[%b]" % damaged)
