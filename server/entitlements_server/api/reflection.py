"""Server reflection, so that grpcurl and ghz need no proto files."""

from collections.abc import Iterable
from typing import Any, Literal

from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2  # noqa: F401  # so that tools can decode error details
from grpc_reflection.v1alpha import reflection, reflection_pb2

from entitlements_server.api.admission import Kind
from entitlements_server.api.errors import NoSuchMethodError
from entitlements_server.api.route import Route, Stream, StreamCall
from entitlements_server.api.translate import read_message

_V1ALPHA = reflection.SERVICE_NAME
_V1 = _V1ALPHA.replace("v1alpha", "v1")
"""Both versions of reflection. Their messages are the same but for the name of the package."""


def reflection_routes(
    services: Iterable[str], who: Literal["callers", "open", "off"]
) -> dict[str, Route]:
    """Return the routes of reflection: for callers, for everyone, or answered as unknown method.

    Args:
        services: The services to list. All message types of this program can be looked up.
        who: Who may call it.
    """
    answers = reflection.ReflectionServicer((*services, _V1, _V1ALPHA), pool=_MethodFindingPool())

    def begin(call: StreamCall) -> Stream:
        return _Reflection(call, answers)

    methods = [f"{version}/ServerReflectionInfo" for version in (_V1, _V1ALPHA)]
    return {
        f"/{method}": Route(
            method=method,
            open=who == "open",
            kind=Kind.STREAMING,
            stream=_off if who == "off" else begin,
        )
        for method in methods
    }


def _off(_: StreamCall) -> Stream:
    raise NoSuchMethodError


class _Reflection:
    """Answers one request after another: the next is read when the answer was sent."""

    def __init__(self, call: StreamCall, answers: Any) -> None:
        self._call = call
        self._answers = answers

    def received(self, message: bytes) -> None:
        """See Stream."""
        request = read_message(reflection_pb2.ServerReflectionRequest, message)
        for response in self._answers.ServerReflectionInfo(iter((request,)), None):
            self._call.send(response.SerializeToString())

    def half_closed(self) -> None:
        """See Stream."""
        self._call.finish()

    def sent(self) -> None:
        """See Stream."""
        self._call.receive()

    def ended(self) -> None:
        """See Stream."""


class _MethodFindingPool:
    """The default pool, which also finds files by method name, as ghz asks for those."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()
        self._pool.AddSerializedFile(_v1_file())

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


def _v1_file() -> bytes:
    """Return the contract of reflection v1, which grpcio-reflection does not have yet."""
    contract = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(contract)
    # Names stand in it with their length, so the text is changed and not the bytes.
    text = text_format.MessageToString(contract)
    renamed = text.replace("reflection.v1alpha", "reflection.v1").replace(
        "reflection/v1alpha", "reflection/v1"
    )
    return text_format.Parse(renamed, FileDescriptorProto()).SerializeToString()
