"""The client's values have what the contract's messages have."""

from dataclasses import fields
from typing import Any

import pytest

import entitlements
from entitlements import _values
from entitlements.v1 import resources_pb2 as pb

VALUES: list[tuple[Any, Any, Any]] = [
    (pb.Transaction, entitlements.Transaction, _values.transaction),
    (pb.Account, entitlements.Account, _values.account),
    (pb.Access, entitlements.Access, _values.access),
    (pb.Feature, entitlements.Feature, _values.feature),
]
FIELDS = [(*one, field.name) for one in VALUES for field in one[0].DESCRIPTOR.fields]


@pytest.mark.parametrize(("message", "value", "translate", "name"), FIELDS)
def test_each_field_of_a_message_reaches_the_value(
    message: Any, value: Any, translate: Any, name: str
) -> None:
    assert name in {field.name for field in fields(value)}
    full, field = message(), message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(full, name).seconds = 1
    else:
        samples: dict[int, Any] = {field.TYPE_STRING: "x", field.TYPE_BOOL: True}
        setattr(full, name, samples.get(field.type, 1))
    assert getattr(translate(full), name) != getattr(translate(message()), name)
