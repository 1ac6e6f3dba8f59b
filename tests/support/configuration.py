"""What operators write: a file of callers; and what those callers send."""

from hashlib import sha256

Metadata = tuple[tuple[str, str], ...]


def callers(*entries: tuple[str, str, str]) -> str:
    """A configuration file of callers: name, role and token of each."""
    return "\n".join(
        f'[[callers]]\nname = "{name}"\nroles = ["{role}"]\n'
        f'token_sha256 = "{sha256(token.encode()).hexdigest()}"\n'
        for name, role, token in entries
    )


def bearer(token: str) -> Metadata:
    """The metadata of a call with a token."""
    return (("authorization", f"Bearer {token}"),)
