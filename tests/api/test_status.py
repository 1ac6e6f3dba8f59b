"""Errors as callers see them, without a server."""

import grpc

from entitlements_server.api.status import is_known, status_of
from entitlements_server.stores.format import ForeignFormatError


def test_a_record_of_a_newer_format_is_unavailable_and_says_what_to_do() -> None:
    error = ForeignFormatError("2.0")
    assert is_known(error)
    status = status_of(error)
    assert status.code is grpc.StatusCode.UNAVAILABLE
    assert "nothing was written. Replace this server by the newer version" in status.message
