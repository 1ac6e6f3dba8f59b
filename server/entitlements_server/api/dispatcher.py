"""The entry of the server: every call of every service comes through here before it is read.

The transport knows nothing else, so no method can be reached without it.
"""

import asyncio
from collections.abc import Callable, Mapping

from entitlements_server.api.admission import Admission, Bounds, Kind
from entitlements_server.api.auth import Auth, Identity
from entitlements_server.api.errors import NoSuchMethodError
from entitlements_server.api.reporter import Reporter
from entitlements_server.api.route import Route
from entitlements_server.api.session import Serving, Session
from entitlements_server.engine.engine import Engine
from entitlements_server.engine.handover import Handover
from entitlements_server.transport.interface import IncomingCall

MAX_READING = 8
"""Reads that may wait for the store at a time. Each may make a page of a thousand transactions."""


class Dispatcher:
    """Admits calls: who calls, may they, and is there room? See transport.interface.CallDispatcher.

    Make it on the event loop that the engine runs on.

    Args:
        routes: By exact path, as in `/package.Service/Method`. Any other path is unknown.
        auth: Authenticates callers.
        engine: Commits writes.
        reporter: Reports calls that end.
        bounds: Limits on calls.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        auth: Auth,
        engine: Engine,
        reporter: Reporter,
        bounds: Bounds,
        *,
        to_loop: Handover[Callable[[], None]],
    ) -> None:
        self._routes = routes
        self._auth = auth
        self._admission = Admission(bounds)
        reading = asyncio.Semaphore(MAX_READING)
        self._serving = Serving(engine, reporter, to_loop, reading, self._over)
        self._streaming: set[Session] = set()

    @property
    def in_flight(self) -> int:
        """Calls that have begun and have not ended."""
        return self._admission.in_flight

    def begin(self, call: IncomingCall) -> Session:
        """See CallDispatcher."""
        route = self._routes.get(call.path)
        session = Session(call, route, self._serving)
        try:
            identity = session.identity = self._identify(route, call)
            if route is None:
                raise NoSuchMethodError  # noqa: TRY301  # answered like all others
            if not route.open:
                self._auth.admit(identity, route.role)
            session.ticket = self._admission.enter(route.kind, call)
            session.begin()
        except Exception as error:  # noqa: BLE001  # the caller gets a status, whatever it is
            session.reject(error)
            return session
        if route.kind is Kind.STREAMING:
            self._streaming.add(session)
        return session

    def leave(self) -> None:
        """Shed new calls from now on, and end the streams."""
        self._admission.leaving = True
        for session in tuple(self._streaming):
            session.leave()

    def _identify(self, route: Route | None, call: IncomingCall) -> Identity:
        if route is not None and route.open:
            return self._auth.nobody
        identity = self._auth.by_token(call.metadata)
        return self._auth.by_certificate(call.auth_context()) if identity is None else identity

    def _over(self, session: Session) -> None:
        if session.ticket is not None:
            assert session.route is not None
            self._admission.exit(session.route.kind, session.ticket)
            self._streaming.discard(session)
