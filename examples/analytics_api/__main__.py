"""Run the entitlement service and the API together: `python -m analytics_api`."""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from analytics_api.app import create_app
from entitlements import AsyncEntitlementClient

_STOP_SECONDS = 35.0


def main() -> None:
    """Read the options, start the services and print commands to try."""
    parser = argparse.ArgumentParser(prog="python -m analytics_api", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument(
        "--service", metavar="HOST:PORT", help="a running service (default: start one for this run)"
    )
    parser.add_argument(
        "--deadline", type=float, default=5.0, metavar="SECONDS", help="longest time for a call"
    )
    options = parser.parse_args()
    if options.service:
        _serve(options.service, options.listen, options.deadline)
        return
    with _service() as address:
        _serve(address, options.listen, options.deadline)


@contextmanager
def _service() -> Iterator[str]:
    """Start a service with a temporary ledger, and provide its address."""
    with tempfile.TemporaryDirectory(prefix="analytics-api-") as folder:
        command = [
            str(Path(sys.executable).parent / "entitlements-server"),
            *("serve", "--listen", "127.0.0.1:0", "--store", f"sqlite://{folder}/ledger.sqlite"),
        ]
        # Settings come from the arguments only, not from the environment.
        env = {key: value for key, value in os.environ.items() if "ENTITLEMENTS" not in key}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)  # noqa: S603 - our own server
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("Listening on "):
                sys.exit("The entitlement service did not start. Its output above says why.")
            yield line.removeprefix("Listening on ").strip()
        finally:
            process.terminate()
            process.communicate(timeout=_STOP_SECONDS)


def _serve(service: str, listen: str, deadline_s: float) -> None:
    token = os.environ.get("ENTITLEMENTS_TOKEN") or None
    client = AsyncEntitlementClient(service, token=token, deadline_s=deadline_s)
    host, _, port = listen.rpartition(":")
    with socket.create_server((host, int(port))) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        print(_words(service, url), flush=True)
        config = uvicorn.Config(create_app(client), log_level="warning")
        # uvicorn has stopped cleanly before it raises KeyboardInterrupt.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _words(service: str, url: str) -> str:
    ask = "curl -s -H 'X-User-Id: ada'"
    return f"""\
The entitlement service listens on {service}, the API on {url}. Stop with Ctrl-C.

Free for everyone:
  {ask} {url}/events/harbour-final/headline
Costs 2 tokens, so denied at first:
  {ask} {url}/events/harbour-final/distribution
Top up:
  entitlements --address {service} top-up ada 20 --reason 'a first look'
Charged, and with the same key only once:
  {ask} -H 'Idempotency-Key: my-first' {url}/events/harbour-final/distribution
The sources of the uncertainty, for 5 tokens:
  {ask} {url}/events/harbour-final/deep-dive
Several events side by side, for 3:
  {ask} '{url}/comparison?event_id=harbour-final&event_id=valley-opener'
An analysis that fails costs nothing:
  {ask} {url}/events/unrated-debut/extremes
What is left:
  {ask} {url}/tokens
"""


if __name__ == "__main__":
    main()
