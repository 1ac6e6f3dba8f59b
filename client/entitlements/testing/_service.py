"""The service on a thread of its own, with an event loop of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from entitlements import AsyncEntitlementClient, EntitlementClient
from entitlements._channel import DEFAULT_DEADLINE_S
from entitlements.testing._logs import lines_to_logging
from entitlements_server.app import running
from entitlements_server.config.catalogue import read_catalogue
from entitlements_server.config.settings import Settings
from entitlements_server.engine.clock import wall_clock_us
from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature
from entitlements_server.stores import memory as _memory  # noqa: F401  # the first start is quicker
from entitlements_server.transport import threads as _threads  # noqa: F401  # likewise

_DRAIN_S = 1.0
_MICROSECOND = timedelta(microseconds=1)


class Clock:
    """The time of a service: that of this machine, moved on by as much as one likes."""

    def __init__(self) -> None:
        self._ahead_us = 0

    def now(self) -> datetime:
        """Return the time of the service, UTC."""
        return datetime.fromtimestamp(0, UTC) + self.now_us() * _MICROSECOND

    def now_us(self) -> int:
        """Return the time of the service, microseconds since 1970 UTC."""
        return wall_clock_us() + self._ahead_us

    def advance(self, by: timedelta) -> None:
        """Move the time on.

        Raises:
            ValueError: It would move back, which the time of a ledger never does.
        """
        if by < timedelta():
            raise ValueError(f"The clock can be moved on only, not by {by}.")
        self._ahead_us += by // _MICROSECOND


class LocalService:
    """The real service, on a free port of 127.0.0.1, with an empty ledger in memory.

    It serves while the `with` block runs, on a thread of its own, so blocking and asynchronous code
    can call it. Variables of the environment do not configure it.

    Args:
        balances: Tokens to top users up with, which never expire.
        grants: Tokens to top users up with, each with how long they last.
        catalogue: The features: costs by feature, or a catalogue file. None: the catalogue that ships.
        access: How long one charge gives access to an event, by feature. The others: as in the catalogue.

    Attributes:
        clock: The time of the service.

    Raises:
        CatalogueFileError: The file is not a catalogue.
        InvalidFieldError: A feature, a cost or an access is not valid.
        UnknownFeatureError: The catalogue lacks a feature of `access`. This is the server's error.
    """

    def __init__(
        self,
        *,
        balances: Mapping[str, int] | None = None,
        grants: Mapping[str, Iterable[tuple[int, timedelta]]] | None = None,
        catalogue: Mapping[str, int] | Path | None = None,
        access: Mapping[str, timedelta] | None = None,
    ) -> None:
        self.clock = Clock()
        self._balances = dict(balances or {})
        self._grants = {user_id: tuple(each) for user_id, each in (grants or {}).items()}
        self._catalogue = _with_access(_catalogue(catalogue), access or {})
        self._address = ""
        self._client: EntitlementClient | None = None
        self._open = ExitStack()

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT. It stays the same when the service has stopped."""
        self._require_started()
        return self._address

    @property
    def client(self) -> EntitlementClient:
        """A blocking client, which is closed with the service."""
        self._require_started()
        assert self._client is not None
        return self._client

    def async_client(
        self, *, deadline_s: float = DEFAULT_DEADLINE_S, batching: bool = False
    ) -> AsyncEntitlementClient:
        """Make a client for asyncio. Close it, as with `async with`.

        Args:
            deadline_s: Longest time for a call with all its retries, in seconds.
            batching: Whether concurrent charges are sent in one call.
        """
        return AsyncEntitlementClient(self.address, deadline_s=deadline_s, batching=batching)

    async def client_dependency(self) -> AsyncIterator[AsyncEntitlementClient]:
        """Provide a client, as a dependency for FastAPI: what overrides `Gate.client` in a test."""
        async with self.async_client() as client:
            yield client

    def balance(self, user_id: str) -> int:
        """Return the recorded balance of a user, in tokens."""
        return self.client.get_account(user_id).balance

    def available(self, user_id: str) -> int:
        """Return what a user can spend now, in tokens: without those that have expired."""
        return self.client.get_account(user_id).available

    def start(self) -> Self:
        """Serve, as at the begin of a `with` block.

        Raises:
            EntitlementError: A balance is not valid.
        """
        if self._address:
            raise RuntimeError("The service was started before. Build a new one.")
        with ExitStack() as starting:
            starting.enter_context(lines_to_logging())
            self._address = starting.enter_context(_Thread(self._catalogue, self.clock)).address
            self._client = starting.enter_context(EntitlementClient(self._address))
            for user_id, tokens in self._balances.items():
                if tokens:
                    self._client.top_up(user_id, tokens, reason="balance of the test")
            for user_id, granted in self._grants.items():
                for tokens, lifetime in granted:
                    self._client.top_up(
                        user_id, tokens, lifetime=lifetime, reason="grant of the test"
                    )
            self._open = starting.pop_all()
        return self

    def stop(self) -> None:
        """Stop, as at the end of a `with` block. Then its users see a service that is not there.

        Nothing is left: no thread, no port, no ledger.
        """
        self._open.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _require_started(self) -> None:
        if self._client is None:
            raise RuntimeError("The service has not been started. Use it in a `with` block.")


class _Thread:
    """Serves on a thread, while the block runs."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._started: Future[str] = Future()
        self._stop: Callable[[], object] = lambda: None
        # A daemon: a test that never stops the service must not hang at its end.
        self._thread = threading.Thread(target=self._run, name="entitlements-service", daemon=True)
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.address = self._started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        # Built without its checks, which read the environment.
        settings = Settings.model_construct(
            listen="127.0.0.1:0", store="memory://", drain_seconds=_DRAIN_S
        )
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with running(
            settings, built_in=self._catalogue, clock_us=self._clock.now_us
        ) as server:
            self._stop = partial(loop.call_soon_threadsafe, stop.set)
            self._started.set_result(server.address)
            await stop.wait()


def _catalogue(given: Mapping[str, int] | Path | None) -> Catalogue:
    if given is None:
        return BUILT_IN
    if isinstance(given, Path):
        return read_catalogue(given)
    return Catalogue(
        tuple(
            Feature(feature_id=feature, cost=cost, title=feature) for feature, cost in given.items()
        )
    )


def _with_access(catalogue: Catalogue, access: Mapping[str, timedelta]) -> Catalogue:
    for feature in access:
        catalogue.feature(feature)  # raises if it is not there
    return Catalogue(
        tuple(
            replace(one, access_us=access[one.feature_id] // _MICROSECOND)
            if one.feature_id in access
            else one
            for one in catalogue.features
        )
    )
