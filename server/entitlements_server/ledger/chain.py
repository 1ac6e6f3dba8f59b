"""The chain: one digest per account that depends on every transaction of its history.

    head = BLAKE2b-256(DOMAIN, FORM, head before, commitment, facts)
    commitment = BLAKE2b-256(PERSONAL_DOMAIN, FORM, salt, personal)

A transaction's stored form is JSON, see `encoding.py`. Its facts are the text before the first `,"2":`
and what is personal is the text after that: ids of people and free texts. A field that is its default
is not in there, so a field that is added later leaves the digests of old rows as they are. The head
before the first transaction is 32 zero bytes.

The account keeps the head and the rows keep no digest. Whoever has to forget a person replaces what
is personal by its commitment, and drops the salt: then nobody can guess what it was, and the chain
still holds.
"""

from hashlib import blake2b

DOMAIN = b"entitlements.v1.Transaction"
"""What the digest of a transaction begins with."""

PERSONAL_DOMAIN = b"entitlements.v1.Transaction/personal"
"""What the commitment to what is personal begins with."""

FORM = b"\x00\x01"
"""A zero byte and the version of this form. A new form is a new number."""

GENESIS = bytes(32)
"""The head before the first transaction."""

_BEFORE_PERSONAL = b',"2":'
# Copying a digest that has begun is faster than beginning one.
_CHAIN = blake2b(DOMAIN + FORM, digest_size=32)
_COMMITMENT = blake2b(PERSONAL_DOMAIN + FORM, digest_size=32)


def next_head(head: bytes, salt: str, stored: bytes) -> bytes:
    """Return the head once a transaction is recorded.

    Args:
        head: The head before it; empty before the first.
        salt: Of the account: letters, digits, `-` and `_`.
        stored: The transaction as it is stored. Quotes within its texts are escaped, so the first
            member that is called 2 is where what is personal begins.
    """
    facts, _, personal = stored.partition(_BEFORE_PERSONAL)
    commitment = _COMMITMENT.copy()
    commitment.update(salt.encode())
    commitment.update(personal)
    chain = _CHAIN.copy()
    chain.update(head or GENESIS)
    chain.update(commitment.digest())
    chain.update(facts)
    return chain.digest()
