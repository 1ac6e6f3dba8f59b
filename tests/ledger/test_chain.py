"""The chain holds for ever: fixed vectors, and the rule as it is written down."""

from hashlib import blake2b

import pytest
from msgspec.structs import replace

from entitlements_server.ledger.chain import next_head
from entitlements_server.ledger.encoding import decode_transaction, encode_transaction
from entitlements_server.ledger.fold import account_after
from entitlements_server.ledger.values import Account, Kind, Status, Transaction
from support.fields import TRANSACTION, UNUSUAL, names_of, sample

SALT = "AAECAwQFBgcICQoLDA0ODw"

HISTORY = [
    (
        '{"3":1,"4":3,"5":1,"8":100,"10":100,"11":1790000000000000,"17":"c8aa50814c64","2":"ada",'
        '"14":"a \\"gift\\" ☕","16":"billing","101":"AAECAwQFBgcICQoLDA0ODw"}'
    ),
    (
        '{"3":2,"4":1,"5":1,"6":"full_distribution","7":2,"8":-2,"10":98,"11":1790000000000001,'
        '"12":"event-17","17":"c8aa50814c64","2":"ada","13":"k-1","16":"gateway"}'
    ),
    (
        '{"3":3,"4":2,"5":1,"8":2,"10":100,"11":1790000000000002,'
        '"15":"2-8d0d1d4ae2d5b8e0e8a3","17":"c8aa50814c64","18":1789999999999999,"2":"ada"}'
    ),
    '{"3":4,"4":77,"5":1,"10":100,"11":1790000000000003,"60":["x",1],"2":"ada","61":"y"}',
]
"""As they are stored; the last is of a version that does not exist yet."""

HEADS = [
    "40e363eb13ce7060a96c5184f1f7d4e9f8c8db926e050bc7a448dd50cd3ab76c",
    "3c80e6b514b7c6f4ad9418285afd68b0806510a6e6d1745a978cee56abf81834",
    "033ab8cfb41e7427cd54623961c3b4d75363ac2f79b8d7dbcc57c4541d84d6d9",
    "5576c8fbf2e4f468f41bc1705812f1e7863434c67ff537306872c13181e625ea",
]
"""The head after each of them. These may never change."""


def test_the_heads_of_a_fixed_history_are_what_they_have_always_been() -> None:
    account = Account("ada")
    heads = []
    for stored in HISTORY:
        transaction = decode_transaction(stored)
        assert encode_transaction(transaction) == stored.encode()
        account = account_after(account, transaction, encode_transaction(transaction))
        heads.append(account.head.hex())
    assert heads == HEADS
    assert account.salt == SALT


def test_the_head_is_computed_as_it_is_written_down() -> None:
    head = bytes(32)
    for stored, wanted in zip(HISTORY, HEADS, strict=True):
        facts, personal = stored.encode().split(b',"2":', 1)
        commitment = blake2b(
            b"entitlements.v1.Transaction/personal\x00\x01" + SALT.encode() + personal,
            digest_size=32,
        ).digest()
        head = blake2b(
            b"entitlements.v1.Transaction\x00\x01" + head + commitment + facts, digest_size=32
        ).digest()
        assert head.hex() == wanted


@pytest.mark.parametrize("name", names_of(Transaction))
def test_the_head_depends_on_each_field(name: str) -> None:
    changed = replace(TRANSACTION, **sample(Transaction, name))
    one = next_head(b"", SALT, encode_transaction(TRANSACTION))
    assert next_head(b"", SALT, encode_transaction(changed)) != one


def test_the_head_depends_on_the_one_before_it_and_on_the_salt() -> None:
    stored = encode_transaction(TRANSACTION)
    heads = {
        next_head(b"", SALT, stored),
        next_head(b"\x01" * 32, SALT, stored),
        next_head(b"", "another", stored),
    }
    assert len(heads) == 3


def test_a_text_that_looks_like_the_personal_members_is_not_taken_for_them() -> None:
    one = replace(TRANSACTION, event_id=UNUSUAL)
    facts, _, personal = encode_transaction(one).partition(b',"2":')
    assert personal == b'"ada"}'
    assert b'"12":' in facts


def test_a_row_keeps_its_digest_when_an_older_version_carries_what_it_does_not_know() -> None:
    known = encode_transaction(TRANSACTION)
    newer = known.replace(b',"2":', b',"60":[1,"a"],"2":')[:-1] + b',"61":{"b":1.50}}'
    read = decode_transaction(newer)
    assert next_head(b"", SALT, encode_transaction(read)) == next_head(b"", SALT, newer)
    assert next_head(b"", SALT, newer) != next_head(b"", SALT, known)


def test_the_chain_still_holds_when_a_person_was_forgotten() -> None:
    """Whoever has the commitment of a row needs neither its personal members nor the salt."""
    kept = []
    for stored in HISTORY:
        facts, personal = stored.encode().split(b',"2":', 1)
        whole = b"entitlements.v1.Transaction/personal\x00\x01" + SALT.encode() + personal
        kept.append((facts, blake2b(whole, digest_size=32).digest()))
    head = bytes(32)
    for facts, commitment in kept:
        assert b"ada" not in facts
        assert b"gift" not in facts
        data = b"entitlements.v1.Transaction\x00\x01" + head + commitment + facts
        head = blake2b(data, digest_size=32).digest()
    assert head.hex() == HEADS[-1]


def test_a_new_account_has_a_salt_of_its_own_and_only_its_first_transaction_names_it() -> None:
    first = replace(TRANSACTION, salt=SALT)
    second = Transaction(
        2, Kind.TOP_UP, Status.SUCCESS, amount=1, balance_after=6, create_time_us=8, user_id="ada"
    )
    account = account_after(Account("ada"), first, encode_transaction(first))
    account = account_after(account, second, encode_transaction(second))
    assert account.salt == SALT
