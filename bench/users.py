"""The users of the ledgers that are measured."""

USERS = 10_000
MANY = 1_000
"""The first so many of them are those that most measurements charge."""

TOKENS = 10**9
"""What each has been given."""

FIRST_KEY = "first"
"""Key of a charge for `full_distribution` that every user has."""


def user_id(number: int) -> str:
    """Name a user."""
    return f"user-{number:05}"
