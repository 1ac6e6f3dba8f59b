"""Reflection, by which grpcurl and ghz know the contract: both versions that clients ask for."""

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from support.access import (
    CALLERS,
    REFLECTION,
    REFLECTION_V1,
    bearer,
    reflects,
)
from support.rpc import raw_streams, serving

SERVICES = [
    "entitlements.v1.EntitlementService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


async def ask(
    channel: grpc.aio.Channel, path: str, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    call = raw_streams(channel, path)(iter([request.SerializeToString()]), timeout=30)
    (response,) = [reflection_pb2.ServerReflectionResponse.FromString(one) async for one in call]
    return response


@pytest.mark.parametrize("path", [REFLECTION, REFLECTION_V1])
async def test_both_versions_list_the_services_and_describe_them(path: str) -> None:
    async with serving() as api:
        listed = await ask(
            api.channel, path, reflection_pb2.ServerReflectionRequest(list_services="")
        )
        names = [one.name for one in listed.list_services_response.service]
        assert names == SERVICES
        for name in names:
            found = await ask(
                api.channel,
                path,
                reflection_pb2.ServerReflectionRequest(file_containing_symbol=name),
            )
            file = FileDescriptorProto.FromString(
                found.file_descriptor_response.file_descriptor_proto[0]
            )
            assert name in [f"{file.package}.{service.name}" for service in file.service]


@pytest.mark.parametrize("path", [REFLECTION, REFLECTION_V1])
@pytest.mark.parametrize(
    ("who", "stranger", "reader"),
    [
        ("callers", "UNAUTHENTICATED", "OK"),
        ("open", "OK", "OK"),
        ("off", "UNAUTHENTICATED", "UNIMPLEMENTED"),
    ],
)
async def test_both_versions_are_for_the_same_people(
    path: str, who: str, stranger: str, reader: str
) -> None:
    settings = Settings(listen="127.0.0.1:0", reflection=who)
    async with (
        running(settings, CALLERS) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert (await reflects(channel, (), path)).name == stranger
        assert (await reflects(channel, bearer("reader"), path)).name == reader
