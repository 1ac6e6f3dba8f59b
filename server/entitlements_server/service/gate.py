"""The one way into the server: every call of every service passes here, before it is read.

It is gRPC's only handler, so nothing is reachable beside it. An interceptor would see as much but
cost each call two coroutines more; this way a call that is not let in costs less than one that is.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from entitlements_server.callers import Role
from entitlements_server.engine import OverloadedError
from entitlements_server.service.calls import Arrival, Calls, Endpoint
from entitlements_server.service.errors import NoSuchMethodError
from entitlements_server.service.guard import Guard, Identity
from entitlements_server.service.observing import UNKNOWN_METHOD
from entitlements_server.service.tasks import hold_call, release_call

MAX_STREAMING = 1000
"""Calls that stream (watches of health, reflection) at once; more are refused."""

_SHED_DELAY_S = 0.5
_LEAVING_DELAY_S = 2.0
_QUIET_S = 0.05
_MOST_QUIET_CHECKS = 20

Handler = Any
"""gRPC's RpcMethodHandler."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method that the server has.

    Attributes:
        endpoint: Serves its calls.
        role: What a caller needs; None: being a caller is enough.
        open: Whether even those may call who are no callers.
        shed: Whether it is refused when too many calls are in flight.
        handler: Makes gRPC's handler of a coroutine function.
        streaming: Whether a call may last for as long as it likes.
    """

    endpoint: Endpoint
    role: Role | None = None
    open: bool = False
    shed: bool = True
    handler: Callable[[Any], Handler] = grpc.unary_unary_rpc_method_handler
    streaming: bool = False


class Gate(grpc.GenericRpcHandler):
    """Lets calls in: authentication, roles, rates, and the limit of calls in flight.

    Args:
        routes: By exact path, as in `/package.Service/Method`. Any other path is unknown.
        guard: Recognises callers.
        calls: Runs what is let in.
        max_in_flight: Calls worked on at once, at least 1.
    """

    def __init__(
        self, routes: Mapping[str, Route], guard: Guard, calls: Calls, *, max_in_flight: int
    ) -> None:
        self._routes = routes
        self._guard = guard
        self._calls = calls
        self._max_in_flight = max_in_flight
        self._streaming = 0
        self._arrived = 0
        self._leaving = False
        # Made once: one for each call would be a tenth of our part of a CheckAccess.
        self._handlers = {path: self._let_in(route) for path, route in routes.items()}

    async def leave(self) -> None:
        """Refuse new calls with a reason, and return when hardly any come, after a second at most.

        A stopping gRPC server cancels without a word the calls that it has received and not yet
        handed over. So they are handed over and refused first, until callers have heard of it.
        """
        self._leaving = True
        for _ in range(_MOST_QUIET_CHECKS):
            arrived = self._arrived
            await asyncio.sleep(_QUIET_S)
            if arrived == self._arrived:
                return

    def service(self, handler_call_details: Any) -> Handler:
        """Return what is to be done with a call; gRPC asks once for each. Never raises."""
        task = hold_call()
        self._arrived += 1
        path = handler_call_details.method
        metadata = handler_call_details.invocation_metadata
        route = self._routes.get(path)
        method = path[1:] if route is not None else UNKNOWN_METHOD
        arrival = Arrival(method, metadata, time.perf_counter())
        try:
            if route is not None and route.open:
                identity: Identity | None = self._guard.nobody
            else:
                identity = self._guard.by_token(metadata)
            if identity is None:
                return self._let_in_by_certificate(route, arrival)
            if route is None:
                raise NoSuchMethodError  # noqa: TRY301  # refused like all others
            self._admit(route, identity)
        except Exception as error:  # noqa: BLE001  # gRPC would send its text to the caller
            return self._refusal(arrival, error)
        task.note = arrival, identity
        return self._handlers[path]

    def express(self, path: str) -> Handler:
        """Return a handler of an open method that gRPC can be given beside this gate.

        gRPC keeps a line of its own for a method that it knows by name. So calls of that method
        do not stand behind thousands of others that wait to be taken up.
        """
        route = self._routes[path]
        assert route.open
        assert not route.shed
        assert not route.streaming

        async def handle(request: Any, context: Any) -> Any:
            arrival = Arrival(path[1:], context.invocation_metadata(), time.perf_counter())
            return await self._calls.run(
                arrival, self._guard.nobody, route.endpoint, request, context
            )

        return route.handler(handle)

    def _admit(self, route: Route, identity: Identity) -> None:
        if not route.open:
            self._guard.admit(identity, route.role)
        if route.shed and self._leaving:
            raise OverloadedError(
                "This server is shutting down and nothing was charged: send the request again, to"
                " another server or when it is back.",
                retry_delay_s=_LEAVING_DELAY_S,
                cause="draining",
            )
        if route.shed and self._calls.in_flight - self._streaming >= self._max_in_flight:
            raise OverloadedError(
                "The server works on as many calls as it can and nothing was charged: send the"
                " request again after the delay.",
                retry_delay_s=_SHED_DELAY_S,
                cause="in_flight",
            )
        if route.streaming and self._streaming >= MAX_STREAMING:
            raise OverloadedError(
                "The server has as many streaming calls as it can: try again after the delay.",
                retry_delay_s=_SHED_DELAY_S,
                cause="streaming",
            )

    def _let_in(self, route: Route) -> Handler:
        """Make gRPC's handler of the calls of a method; what is known of each is in its task."""
        run, endpoint = self._calls.run, route.endpoint

        async def handle(request: Any, context: Any) -> Any:
            arrival, identity = release_call().note
            return await run(arrival, identity, endpoint, request, context)

        async def stream(request: Any, context: Any) -> None:
            arrival, identity = release_call().note
            self._streaming += 1
            try:
                await run(arrival, identity, endpoint, request, context)
            finally:
                self._streaming -= 1

        return route.handler(stream if route.streaming else handle)

    def _let_in_by_certificate(self, route: Route | None, arrival: Arrival) -> Handler:
        """Let a call in once gRPC's context, which has the client certificate, is there."""

        async def handle(request: Any, context: Any) -> Any:
            task = release_call()
            try:
                identity = self._guard.by_certificate(context.auth_context())
                if route is None:
                    raise NoSuchMethodError  # noqa: TRY301  # refused like all others
                self._admit(route, identity)
            except Exception as error:  # noqa: BLE001  # the caller gets a status
                await self._calls.refuse(arrival, error, context)
            task.note = arrival, identity
            inner = self._let_in(route)
            behaviour = inner.unary_unary or inner.unary_stream or inner.stream_stream
            return await behaviour(request, context)

        return (route.handler if route else grpc.stream_stream_rpc_method_handler)(handle)

    def _refusal(self, arrival: Arrival, error: Exception) -> Handler:
        async def refuse(_: Any, context: Any) -> None:
            release_call()
            await self._calls.refuse(arrival, error, context)

        # As a stream it is answered without waiting for the request.
        return grpc.stream_stream_rpc_method_handler(refuse)
