"""Serialized messages in a file, each after its length."""

from collections.abc import Iterable
from pathlib import Path

from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]


def write_delimited(path: Path, messages: Iterable[bytes]) -> None:
    """Write the messages to a file."""
    path.write_bytes(b"".join(_VarintBytes(len(message)) + message for message in messages))


def read_delimited(path: Path) -> list[bytes]:
    """Read the messages of a file."""
    data, messages, begin = path.read_bytes(), [], 0
    while begin < len(data):
        size, begin = _DecodeVarint(data, begin)
        messages.append(data[begin : begin + size])
        begin += size
    return messages
