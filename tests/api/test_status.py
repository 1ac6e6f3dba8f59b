"""Errors as callers see them, without a server."""

import grpc
from google.rpc import error_details_pb2, status_pb2

from entitlements_server.api.errors import RequestMissingError
from entitlements_server.api.status import DETAILS_KEY, status_of
from entitlements_server.stores.format import ForeignFormatError


def test_a_record_of_a_newer_format_is_unavailable_and_says_what_to_do() -> None:
    status = status_of(ForeignFormatError("2.0"))
    assert status.code is grpc.StatusCode.UNAVAILABLE
    assert "nothing was written. Replace this server by the newer version" in status.message


def test_a_call_without_a_request_names_the_field_that_it_lacks() -> None:
    """As the contract says of every INVALID_FIELD."""
    ((key, value),) = status_of(RequestMissingError()).trailers
    assert key == DETAILS_KEY
    assert isinstance(value, bytes)
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    first, second = status_pb2.Status.FromString(value).details
    assert first.Unpack(info)
    assert second.Unpack(request)
    assert (info.reason, dict(info.metadata)) == ("INVALID_FIELD", {"field": "request"})
    assert [one.field for one in request.field_violations] == ["request"]
