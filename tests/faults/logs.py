"""What a server wrote and counted while it was attacked."""

import json
import time
import urllib.request

HANDSHAKE_FAILURES = "entitlements_handshake_failures_total"
_PATIENCE_S = 10.0


def lines_without_json(log: str) -> list[str]:
    """The lines of a log that aren't a JSON object each."""
    return [line for line in log.splitlines() if not _is_object(line)]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def handshake_failures(metrics_url: str, expected: int) -> int:
    """How many failed handshakes the metrics count, once there are as many as expected or after 10 s."""
    end = time.monotonic() + _PATIENCE_S
    while (counted := _counted(metrics_url)) < expected and time.monotonic() < end:
        time.sleep(0.05)
    return counted


def _counted(metrics_url: str) -> int:
    with urllib.request.urlopen(metrics_url, timeout=_PATIENCE_S) as response:
        lines = response.read().decode().splitlines()
    return sum(
        int(float(line.split()[-1])) for line in lines if line.startswith(HANDSHAKE_FAILURES)
    )
