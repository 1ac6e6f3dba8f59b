"""`grpc.health.v1.Health`, open to everyone, and the monitor that updates it."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import structlog
from grpc_health.v1 import health, health_pb2

from entitlements_server.api.admission import Kind
from entitlements_server.api.errors import RequestMissingError, UnknownServiceError
from entitlements_server.api.route import Call, Route, StreamCall
from entitlements_server.api.translate import read_message
from entitlements_server.stores.interface import Store, StoreUnavailableError

log = structlog.get_logger()

SERVICE = health.SERVICE_NAME
"""Full name of the service."""

_PING_S = 1.0
_PING_TIMEOUT_S = 5.0

Status = int
"""A ServingStatus."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The serving status, for `Check` and `Watch`.

    Thread-safe.

    Args:
        services: Full names of the services; the empty name is the whole server.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._statuses: dict[str, Status] = dict.fromkeys(services, _SERVING)
        self._watches: set[_Watch] = set()
        self._lock = threading.Lock()
        self._leaving = False

    def routes(self) -> dict[str, Route]:
        """Return the routes of the service."""
        check = Route(method=f"{SERVICE}/Check", open=True, kind=Kind.OPEN, serve=self._check)
        watch = Route(method=f"{SERVICE}/Watch", open=True, kind=Kind.STREAMING, stream=self._watch)
        return {f"/{one.method}": one for one in (check, watch)}

    @property
    def serving(self) -> bool:
        """Whether the server is SERVING as a whole."""
        return bool(self._statuses[""] == _SERVING)

    def set(self, *, serving: bool) -> None:
        """Set whether the server is serving."""
        with self._lock:
            if self._leaving:
                return
            self._say(_SERVING if serving else _NOT_SERVING)

    def leave(self) -> None:
        """Set NOT_SERVING for good: later calls of `set` have no effect."""
        with self._lock:
            self._leaving = True
            self._say(_NOT_SERVING)

    def _say(self, status: Status) -> None:
        self._statuses = dict.fromkeys(self._statuses, status)
        for watch in self._watches:
            watch.update(self._statuses.get(watch.service, _SERVICE_UNKNOWN))

    def _check(self, data: bytes, _: Call) -> health_pb2.HealthCheckResponse:
        service = read_message(health_pb2.HealthCheckRequest, data).service
        status = self._statuses.get(service)
        if status is None:
            raise UnknownServiceError(service)
        return health_pb2.HealthCheckResponse(status=status)

    def _watch(self, call: StreamCall) -> "_Watch":
        return _Watch(call, self)

    def join(self, watch: "_Watch") -> None:
        """Send a watch the status now and whenever it changes."""
        with self._lock:
            self._watches.add(watch)
            watch.update(self._statuses.get(watch.service, _SERVICE_UNKNOWN))

    def part(self, watch: "_Watch") -> None:
        """Remove a watch."""
        with self._lock:
            self._watches.discard(watch)


class _Watch:
    """A watch. A slow reader misses intermediate changes, but never the last one."""

    def __init__(self, call: StreamCall, of: Health) -> None:
        self.service = ""
        self._call = call
        self._of = of
        self._lock = threading.Lock()
        self._latest: Status | None = None
        self._said: Status | None = None
        self._sending = False

    def update(self, status: Status) -> None:
        """Send a status, now or when the message before it was sent."""
        with self._lock:
            self._latest = status
            if not self._sending:
                self._send()

    def received(self, message: bytes) -> None:
        """See Stream."""
        self.service = read_message(health_pb2.HealthCheckRequest, message).service
        self._of.join(self)

    def half_closed(self) -> None:
        """See Stream. Only a call without a request gets here."""
        raise RequestMissingError

    def sent(self) -> None:
        """See Stream."""
        with self._lock:
            self._sending = False
            self._send()

    def ended(self) -> None:
        """See Stream."""
        self._of.part(self)

    def _send(self) -> None:
        if self._latest is not None and self._latest != self._said:
            self._said = self._latest
            self._sending = True
            response = health_pb2.HealthCheckResponse(status=self._latest)
            self._call.send(response.SerializeToString())


async def monitor(
    store: Store, of: Health, report: Callable[[bool], None], clock_problem: Callable[[], str]
) -> None:
    """Ping the store every second, forever, and update the health.

    Args:
        store: The store to ping.
        of: The health to update.
        clock_problem: Returns why the time cannot be trusted, or an empty text.
        report: Called with whether each ping succeeded.
    """
    known = None
    said = ""
    while True:
        cause = ""
        try:
            await asyncio.wait_for(store.ping(), _PING_TIMEOUT_S)
        except (StoreUnavailableError, TimeoutError) as error:
            cause = repr(error.__cause__ or error)
        report(not cause)
        untrusted = clock_problem()
        if untrusted != said:
            log.warning(
                untrusted or "The clock of this machine is right again, and writes are accepted."
            )
            said = untrusted
        serving = not cause and not untrusted
        if serving != known:
            if cause:
                log.warning(
                    "The ledger cannot be reached, so health is NOT_SERVING until it can: repair its"
                    " disk or its Redis. The server keeps trying.",
                    cause=cause,
                )
            elif known is not None and not untrusted:
                log.warning("The ledger can be reached again, so health is SERVING.")
            of.set(serving=serving)
            known = serving
        await asyncio.sleep(_PING_S)
