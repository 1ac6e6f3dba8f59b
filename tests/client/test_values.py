"""The client's values have what the contract's messages have."""

from dataclasses import fields
from typing import Any

import pytest

import entitlements
from entitlements import _values
from entitlements.v1 import entitlement_service_pb2 as rpc
from entitlements.v1 import resources_pb2 as pb

VALUES: list[tuple[Any, Any, Any]] = [
    (pb.Transaction, entitlements.Transaction, _values.transaction),
    (pb.Account, entitlements.Account, _values.account),
    (pb.Access, entitlements.Access, _values.access),
    (pb.Grant, entitlements.Grant, lambda one: _values.account(pb.Account(grants=[one])).grants[0]),
    (
        pb.Draw,
        entitlements.Draw,
        lambda one: _values.transaction(pb.Transaction(draws=[one])).draws[0],
    ),
    (pb.Feature, entitlements.Feature, _values.feature),
]
FIELDS = [(*one, field.name) for one in VALUES for field in one[0].DESCRIPTOR.fields]


@pytest.mark.parametrize(("message", "value", "translate", "name"), FIELDS)
def test_each_field_of_a_message_reaches_the_value(
    message: Any, value: Any, translate: Any, name: str
) -> None:
    assert name in {field.name for field in fields(value)}
    full, field = message(), message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(full, name)["x"] = "y"
    elif field.message_type is not None and field.is_repeated:
        getattr(full, name).add().amount = 1
    elif field.message_type is not None:
        getattr(full, name).seconds = 1
    else:
        samples: dict[int, Any] = {field.TYPE_STRING: "x", field.TYPE_BOOL: True}
        setattr(full, name, samples.get(field.type, 1))
    assert getattr(translate(full), name) != getattr(translate(message()), name)


def test_what_a_response_says_of_a_charge_reaches_the_value() -> None:
    """Besides the charge: its end of access is a field of the charge."""
    fields_of_response = {field.name for field in rpc.ConsumeResponse.DESCRIPTOR.fields}
    assert fields_of_response == {
        "transaction",
        "replayed",
        "covered",
        "access_until",
        "refunded",
    }
    full = _values.charged(rpc.ConsumeResponse(replayed=True, covered=True, refunded=2))
    assert (full.replayed, full.covered, full.refunded) == (True, True, 2)


def test_each_field_of_a_charge_to_make_is_sent() -> None:
    asked = {field.name for field in fields(entitlements.ConsumeRequest)}
    assert asked == {field.name for field in rpc.ConsumeRequest.DESCRIPTOR.fields}
