"""The limits of every value in the ledger. The contract states them too."""

SECOND_US = 1_000_000
"""Microseconds in a second."""

MAX_ID_BYTES = 128
"""Longest `user_id`, `feature`, `event_id` and `transaction_id`, in bytes of UTF-8."""

MAX_KEY_BYTES = 255
"""Longest idempotency key, in bytes of UTF-8."""

MAX_TEXT_BYTES = 500
"""Longest `reason` and longest text in the catalogue, in bytes of UTF-8."""

MAX_AMOUNT = 10**12
"""Most tokens that one command may move, and highest price."""

MAX_QUANTITY = 10**6
"""Most uses of a feature in one charge."""

MAX_LABELS = 8
"""Most labels of one transaction."""

MAX_LABEL_KEY_BYTES = 64
"""Longest key of a label, in bytes."""

MAX_LABEL_VALUE_BYTES = 256
"""Longest value of a label, in bytes of UTF-8."""

MAX_GRANTS = 64
"""Most open grants of an account."""

MIN_PERIOD_US = SECOND_US
"""Shortest lifetime of tokens, and shortest access window."""

MAX_PERIOD_US = 36_500 * 86_400 * SECOND_US
"""Longest lifetime of tokens, and longest access window."""

MAX_TIME_US = 2**53 - 1
"""Latest time that tokens may expire at, in the year 2255: exact in JSON, in a double and in every store."""

MAX_BALANCE = 2**53 - 1
"""Highest balance: every integer up to it is exact in JSON and in a double."""
