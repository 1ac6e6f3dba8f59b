"""Reflection, so that grpcurl and ghz need no proto files."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2  # noqa: F401  # so that details of errors show decoded
from grpc_reflection.v1alpha import reflection


def reflection_servicer(services: Iterable[str]) -> reflection.aio.ReflectionServicer:
    """Return what lets callers look up `services` and every message type of this program."""
    names = (*services, reflection.SERVICE_NAME)
    return reflection.aio.ReflectionServicer(names, pool=_MethodFindingPool())


class _MethodFindingPool:
    """The default pool, which finds files by the names of methods, too: ghz asks for those."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # its name
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return (
                self._pool.FindServiceByName(service)
                .methods_by_name[method]
                .containing_service.file
            )
