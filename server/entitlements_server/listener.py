"""gRPC's server, which is put up again should it fall over.

One HTTP/2 request whose path is no UTF-8 ends the accepting loop of `grpc.aio` (1.85.1) for good:
the process lives on and answers nobody. Anyone who can connect can send one. So the listener looks
after its server: a fallen one finishes what it has begun, and a new one takes its port at once.
"""

import asyncio

import grpc
import structlog

from entitlements_server.service.gate import Gate
from entitlements_server.service.standard import HEALTH_CHECK
from entitlements_server.settings import Settings
from entitlements_server.tls import CertificateInForce
from entitlements_server.transport import ListenError, listen, options

log = structlog.get_logger()

_LOOK_SECONDS = 0.1
_TRIES = 100


class Listener:
    """Listens at one address for as long as it is not stopped.

    Args:
        gate: Lets calls in.
        settings: Say where and with which limits.
        certificate: The TLS certificate in force; None: no TLS.
    """

    def __init__(
        self,
        gate: Gate,
        settings: Settings,
        certificate: CertificateInForce | None,
    ) -> None:
        self._gate = gate
        self._settings = settings
        self._certificate = certificate
        self._server: grpc.aio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self._fallen: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen, and return where, as HOST:PORT with the real port.

        Raises:
            ListenError: The address cannot be listened on.
        """
        address = await self._put_up(self._settings.listen)
        self._looking = asyncio.create_task(self._look_after(address))
        return address

    async def stop(self) -> None:
        """Take no more calls, and return when those in flight have ended or their time is up."""
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            await self._server.stop(self._settings.drain_seconds)
        if self._fallen:
            await asyncio.wait(self._fallen)

    async def _put_up(self, address: str) -> str:
        server = grpc.aio.server(options=options(self._settings))
        server.add_generic_rpc_handlers((self._gate,))
        # Whoever asks for health is answered before those who wait to be taken up.
        service, method = HEALTH_CHECK[1:].split("/")
        server.add_registered_method_handlers(service, {method: self._gate.express(HEALTH_CHECK)})
        address = listen(server, address, self._certificate)
        await server.start()
        self._server = server
        return address

    async def _look_after(self, address: str) -> None:
        while True:
            server = self._server
            assert server is not None
            try:
                await server.wait_for_termination(_LOOK_SECONDS)
            except Exception as error:  # noqa: BLE001  # whatever it fell over
                log.error(  # noqa: TRY400  # its type says it all
                    "The gRPC server fell over and is put up again. A request that is no valid"
                    " UTF-8 does that: look for who sends such.",
                    error=type(error).__name__,
                )
                ending = asyncio.create_task(server.stop(self._settings.drain_seconds))
                self._fallen.add(ending)
                ending.add_done_callback(self._fallen.discard)
                await self._put_up_again(address)

    async def _put_up_again(self, address: str) -> None:
        for _ in range(_TRIES):
            try:
                await self._put_up(address)
            except ListenError:
                # The port is free once the fallen server has closed it.
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                return
        log.critical("The address cannot be listened on any more: restart the server.")
        raise ListenError(f"The address {address} cannot be listened on any more.")
