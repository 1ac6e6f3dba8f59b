"""The chain: one digest per account that depends on every transaction of its history.

    head = BLAKE2b-256(DOMAIN, FORM, head before, commitment, impersonal)
    commitment = BLAKE2b-256(PERSONAL_DOMAIN, FORM, salt, personal)

A transaction is stored as JSON, see `encoding.py`. The text before the first `,"2":` is impersonal;
the text after it is personal: ids of people and free texts. A field with its default value is left
out, so adding a field later does not change the digests of old rows. The head before the first
transaction is 32 zero bytes.

The account stores the head; the rows store no digest. To forget a person, replace the personal text
by its commitment and drop the salt: nobody can then guess the text, and the chain still holds.
"""

from hashlib import blake2b

DOMAIN = b"entitlements.v1.Transaction"
"""Prefix of the digest of a transaction."""

PERSONAL_DOMAIN = b"entitlements.v1.Transaction/personal"
"""Prefix of the commitment to the personal text."""

FORM = b"\x00\x01"
"""A zero byte and the version of this form. A new form gets a new number."""

GENESIS = bytes(32)
"""The head before the first transaction."""

_BEFORE_PERSONAL = b',"2":'
# Copying a started digest is faster than starting one.
_CHAIN = blake2b(DOMAIN + FORM, digest_size=32)
_COMMITMENT = blake2b(PERSONAL_DOMAIN + FORM, digest_size=32)


def next_head(head: bytes, salt: str, stored: bytes) -> bytes:
    """Return the head after a transaction.

    Args:
        head: The head before it; empty before the first.
        salt: The account's salt: letters, digits, `-` and `_`.
        stored: The transaction as it is stored. Quotes in its texts are escaped, so the first member
            named 2 is where the personal text begins.
    """
    impersonal, _, personal = stored.partition(_BEFORE_PERSONAL)
    commitment = _COMMITMENT.copy()
    commitment.update(salt.encode())
    commitment.update(personal)
    chain = _CHAIN.copy()
    chain.update(head or GENESIS)
    chain.update(commitment.digest())
    chain.update(impersonal)
    return chain.digest()
