"""Callers of every role, strangers of every kind, and calls by their path."""

from contextlib import suppress
from typing import Any

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.config.callers import Caller, Role, token_hash
from support.rpc import raw, raw_streams

SERVICE = pb.DESCRIPTOR.services_by_name["EntitlementService"]
RPCS = [method.name for method in SERVICE.methods]
READER, CHARGER, FUNDER = Role.READER, Role.CHARGER, Role.FUNDER
NEEDED = {
    "CheckAccess": READER,
    "BatchCheckAccess": READER,
    "GetAccount": READER,
    "GetTransaction": READER,
    "ListTransactions": READER,
    "ListFeatures": READER,
    "Consume": CHARGER,
    "BatchConsume": CHARGER,
    "Refund": CHARGER,
    "TopUp": FUNDER,
    "SetBalance": FUNDER,
}
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
REFLECTION_V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
EVERYTHING = frozenset(Role)

Metadata = tuple[tuple[str, str], ...]


def caller(name: str, *roles: Role, **fields: Any) -> Caller:
    return Caller(
        name=name, roles=frozenset(roles), token_hashes=(token_hash(f"ent_{name}"),), **fields
    )


def bearer(name: str) -> Metadata:
    return (("authorization", f"Bearer ent_{name}"),)


CALLERS = (
    caller("reader", READER),
    caller("charger", CHARGER),
    caller("funder", FUNDER),
    caller("all", *EVERYTHING),
    caller("late", *EVERYTHING, expires_s=1),
)
STRANGERS: dict[str, Metadata] = {
    "none": (),
    "wrong token": (("authorization", "Bearer ent_nobody"),),
    "no token": (("authorization", "Bearer "),),
    "another scheme": (("authorization", "Basic ent_all"),),
    "two tokens": bearer("all") + bearer("reader"),
    "expired": bearer("late"),
    "a token's hash": (("authorization", f"Bearer {token_hash('ent_all').hex()}"),),
    "another header": (("x-authorization", "Bearer ent_all"),),
    "too long": (("authorization", "Bearer " + "x" * 2000),),
}


async def code_of(
    channel: grpc.aio.Channel, path: str, metadata: Metadata, request: bytes = b""
) -> grpc.StatusCode:
    """How a call ends. An empty request is let in and then found invalid, or answered."""
    call = raw(channel, path)(request, metadata=metadata, timeout=30)
    code: grpc.StatusCode = await call.code()
    return code


async def reflects(
    channel: grpc.aio.Channel, metadata: Metadata, path: str = REFLECTION
) -> grpc.StatusCode:
    call = raw_streams(channel, path)(iter([b""]), metadata=metadata, timeout=30)
    with suppress(grpc.aio.AioRpcError):
        assert [response async for response in call]
    code: grpc.StatusCode = await call.code()
    return code
