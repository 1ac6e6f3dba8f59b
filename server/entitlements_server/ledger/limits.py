"""The limits of every value in the ledger. The contract states them too."""

MAX_ID_BYTES = 128
"""Longest `user_id`, `feature`, `event_id` and `transaction_id`, in bytes of UTF-8."""

MAX_KEY_BYTES = 255
"""Longest idempotency key, in bytes of UTF-8."""

MAX_TEXT_BYTES = 500
"""Longest `reason` and longest text in the catalogue, in bytes of UTF-8."""

MAX_AMOUNT = 10**12
"""Most tokens that one command may move, and highest price."""

MAX_BALANCE = 2**53 - 1
"""Highest balance: every integer up to it is exact in JSON and in a double."""
