"""What the checks need besides `support.server_process`: a ledger, and channels that come back."""

from pathlib import Path

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_receive_message_length", -1),
)
"""A server that comes back is found at once."""


def ledger_in(folder: Path) -> str:
    """The URL of a durable ledger in a folder."""
    return f"sqlite://{folder}/ledger.sqlite"
