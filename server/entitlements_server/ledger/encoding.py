r"""Accounts and transactions as bytes, as every store keeps them and the chain hashes them.

Each is a JSON object without white space. A field is stored under its number in the contract, unless
it has its default value. A transaction has its impersonal members first, then its personal ones, which begin
with the user id, number 2; both in ascending order. Text is UTF-8; only `"`, `\` and control
characters are escaped.

Members that this version does not know come from a newer one. They are carried through unchanged.
"""

import msgspec
from msgspec import Raw, ValidationError
from msgspec.structs import fields, replace

from entitlements_server.ledger.values import Account, Transaction

Text = str | bytes | Raw
"""What can be decoded."""

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_account = msgspec.json.Decoder(Account).decode
_accounts = msgspec.json.Decoder(list[Account]).decode
_transaction = msgspec.json.Decoder(Transaction).decode
_transactions = msgspec.json.Decoder(list[Transaction]).decode

_ACCOUNT_MEMBERS = {one.encode_name for one in fields(Account) if one.name != "carried"}
_TRANSACTION_MEMBERS = {one.encode_name for one in fields(Transaction) if one.name != "carried"}


def encode_account(account: Account) -> bytes:
    """Return an account as it is stored."""
    if not account.carried:
        return _encode(account)
    known = _encode(replace(account, carried=b""))
    return b"%b,%b}" % (known[:-1], account.carried)


def encode_transaction(transaction: Transaction) -> bytes:
    """Return a transaction as it is stored and hashed."""
    return transaction.carried or _encode(transaction)


def decode_account(text: Text) -> Account:
    """Decode an account.

    Raises:
        msgspec.DecodeError: The text is not an account.
    """
    try:
        return _account(text)
    except ValidationError:
        members = _members(text)
        unknown = {name: members.pop(name) for name in members.keys() - _ACCOUNT_MEMBERS}
        if not unknown:
            raise
    carried = ",".join(f'"{name}":{bytes(unknown[name]).decode()}' for name in sorted(unknown))
    return replace(_account(_encode(members)), carried=carried.encode())


def decode_transaction(text: Text) -> Transaction:
    """Decode a transaction.

    Raises:
        msgspec.DecodeError: The text is not a transaction.
    """
    try:
        return _transaction(text)
    except ValidationError:
        members = _members(text)
        unknown = members.keys() - _TRANSACTION_MEMBERS
        if not unknown:
            raise
    known = {name: value for name, value in members.items() if name not in unknown}
    stored = text.encode() if isinstance(text, str) else bytes(text)
    return replace(_transaction(_encode(known)), carried=stored)


def decode_accounts(text: Text) -> list[Account]:
    """Decode a JSON array of accounts.

    Raises:
        msgspec.DecodeError: An element is not an account.
    """
    try:
        return _accounts(text)
    except ValidationError:
        return [decode_account(one) for one in _raws(text)]


def decode_transactions(text: Text) -> list[Transaction]:
    """Decode a JSON array of transactions.

    Raises:
        msgspec.DecodeError: An element is not a transaction.
    """
    try:
        return _transactions(text)
    except ValidationError:
        return [decode_transaction(one) for one in _raws(text)]
