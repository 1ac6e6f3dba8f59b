"""One tree of errors: what the contract and the docs say of it is what there is."""

import re
import subprocess
import sys

import pytest

import entitlements_server.api.errors
import entitlements_server.ledger.errors
import entitlements_server.stores.format  # noqa: F401  # importing these makes the tree whole
from entitlements.v1.errors_pb2 import ErrorReason
from entitlements_server.errors import CallError
from support.repository import ROOT

CONTRACT = ROOT / "protos" / "entitlements" / "v1" / "errors.proto"


def tree(kind: type[CallError]) -> list[type[CallError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in tree(below))]


KINDS = [kind for kind in tree(CallError) if hasattr(kind, "code")]
WITH_REASON = [kind for kind in KINDS if kind.reason]


def test_the_reasons_of_the_classes_are_those_of_the_contract() -> None:
    """A reason that only one of them has is an edit that was forgotten."""
    names = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118  # no mapping
    assert {kind.reason for kind in WITH_REASON} == names - {"UNSPECIFIED"}


@pytest.mark.parametrize("kind", WITH_REASON)
def test_code_and_metadata_are_as_the_contract_says(kind: type[CallError]) -> None:
    """Its comments are what other languages read."""
    said = re.search(rf"((?:  //.*\n)+)  ERROR_REASON_{kind.reason} = \d+;", CONTRACT.read_text())
    assert said is not None
    comment = re.sub(r"\n? +// ?", " ", said[1])
    code = re.search(r"Code ([A-Z_]+)", comment)
    assert code is not None
    assert code[1] == kind.code
    metadata = re.search(r"Metadata: `(\{.*?\})`", comment)
    keys = set(re.findall(r'"(\w+)":', metadata[1])) if metadata else set()
    assert keys <= set(kind.metadata_keys)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_when_it_happens_and_what_to_do(kind: type[CallError]) -> None:
    assert (kind.__doc__ or "").splitlines()[0].endswith(".")
    assert kind.remedy.endswith(".")


def test_the_page_of_errors_and_the_drawn_tree_are_not_stale() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_ledger_needs_no_grpc() -> None:
    program = (
        "import importlib, pkgutil, sys\n"
        "from entitlements_server import ledger\n"
        "for module in pkgutil.iter_modules(ledger.__path__):\n"
        "    importlib.import_module(f'{ledger.__name__}.{module.name}')\n"
        "print(sorted({'grpc', 'google', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
