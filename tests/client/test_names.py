"""What the package exports, that its types hold outside of it, and how little it imports."""

import inspect
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import entitlements
from entitlements.v1 import entitlement_service_pb2


def test_the_exported_names_are_these() -> None:
    """A name that comes or goes is a decision."""
    assert sorted(entitlements.__all__) == [
        "Access",
        "AccessDeniedError",
        "AccessEndedError",
        "Account",
        "AsyncEntitlementClient",
        "AsyncPurchase",
        "BalanceLimitExceededError",
        "CallerRefusedError",
        "ChargeRefundedError",
        "ConsumeRequest",
        "Draw",
        "EntitlementClient",
        "EntitlementError",
        "Feature",
        "FeatureTier",
        "Grant",
        "IdempotencyKeyReusedError",
        "InvalidRequestError",
        "NotRefundableError",
        "PriceChangedError",
        "Purchase",
        "RateLimitedError",
        "RefundExceedsChargeError",
        "ServiceError",
        "ServiceUnavailableError",
        "Tls",
        "TooManyGrantsError",
        "Transaction",
        "TransactionKind",
        "TransactionNotFoundError",
        "TransactionStatus",
        "UnexpectedServiceError",
        "UnknownFeatureError",
        "__version__",
    ]
    assert all(hasattr(entitlements, name) for name in entitlements.__all__)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """Every error stands in the drawing under its real parent."""
    import entitlements._errors as module  # noqa: PLC0415 - only its docstring is private

    parents: list[str] = []
    drawn = 0
    for line in (module.__doc__ or "").splitlines():
        match = re.match(r"^ {4}((?:│   |    |├── |└── )*)(\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        parents = [*parents[:depth], match[2]]
        parent = parents[-2] if depth else "Exception"
        assert [base.__name__ for base in getattr(entitlements, match[2]).__bases__] == [parent]
        drawn += 1
    assert drawn == sum(name.endswith("Error") for name in entitlements.__all__)


def test_both_clients_have_the_same_methods() -> None:
    """With the same parameters, so that one can be learned and the other used."""
    blocking, aio = entitlements.EntitlementClient, entitlements.AsyncEntitlementClient
    names = {name for name in vars(blocking) if not name.startswith("_")}
    assert names == {name for name in vars(aio) if not name.startswith("_")}
    for name in names - {"from_channel"}:
        codes = [getattr(kind, name).__code__ for kind in (blocking, aio)]
        arguments = [
            code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] for code in codes
        ]
        assert arguments[0] == arguments[1]


def test_the_methods_are_named_after_the_rpcs() -> None:
    """Each RPC has its method, under its own name in snake case."""
    service = entitlement_service_pb2.DESCRIPTOR.services_by_name["EntitlementService"]
    rpcs = {re.sub(r"(?<!^)([A-Z])", r"_\1", each.name).lower() for each in service.methods}
    names = {name for name in vars(entitlements.EntitlementClient) if not name.startswith("_")}
    helpers = {"check_feature_access", "close", "from_channel", "require_tokens"}
    assert names == rpcs | helpers


@pytest.mark.parametrize(
    "client", [entitlements.EntitlementClient, entitlements.AsyncEntitlementClient]
)
def test_every_method_documents_arguments_result_and_errors(client: type) -> None:
    """Under the headings that people look for, and each argument by name."""
    for name, method in vars(client).items():
        if name.startswith("_") or name == "close":
            continue
        # Since 3.13 the compiler takes the indentation away.
        text = inspect.cleandoc(method.__doc__ or "")
        function = getattr(method, "__func__", method)
        for argument in list(inspect.signature(function).parameters)[1:]:
            assert f"\n    {argument}: " in text, (name, argument)
        assert "\nReturns:\n" in text or "\nYields:\n" in text, name
        assert "\nRaises:\n" in text, name


def test_importing_it_imports_no_extra() -> None:
    """What only the command line, FastAPI or the server need stays out; so it is quick to import."""
    script = "import entitlements, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"click", "fastapi", "numpy", "pydantic", "rich", "typer"}
    assert not heavy & set(run.stdout.split())
    assert not any(name.startswith("entitlements_server") for name in run.stdout.split())


def test_the_base_install_needs_three_packages() -> None:
    """Everything else stands under an extra."""
    base = [each for each in requires("entitlements") or [] if "extra ==" not in each]
    names = {re.split(r"[<>=!~ ;\[]", each)[0] for each in base}
    assert names == {"googleapis-common-protos", "grpcio", "protobuf"}


USER_SCRIPT = """
from typing import assert_type
from collections.abc import AsyncIterator, Iterator
from entitlements import (
    AccessDeniedError, AsyncEntitlementClient, Purchase, ConsumeRequest, EntitlementClient,
    EntitlementError, FeatureTier, Transaction, TransactionKind,
)

def blocking(client: EntitlementClient) -> None:
    assert_type(client.check_feature_access("ada", "anything"), bool)
    assert_type(client.require_tokens(user_id="ada", feature=FeatureTier.HEADLINE_PICK), Purchase)
    with client.require_tokens(user_id="ada", feature="x", idempotency_key="k") as tx:
        transaction: Transaction = tx
        assert_type(tx.balance_after, int)
        assert_type(transaction.kind, TransactionKind)
    try:
        client.consume("ada", "x")
    except AccessDeniedError as denied:
        assert_type(denied.required - denied.available, int)
    for result in client.batch_consume([ConsumeRequest("ada", "x")]):
        assert_type(result, Transaction | EntitlementError)
    assert_type(client.list_transactions("ada"), Iterator[Transaction])

async def asynchronous(client: AsyncEntitlementClient) -> None:
    assert_type(await client.require_tokens(user_id="ada", feature="x"), Transaction)
    async with client.require_tokens(user_id="ada", feature="x") as tx:
        assert_type(tx, Transaction)
    assert_type(client.list_transactions("ada"), AsyncIterator[Transaction])
    await client.consume("ada")  # type: ignore[call-arg]
"""


@pytest.mark.slow
def test_types_hold_under_mypy_strict_from_outside(tmp_path: Path) -> None:
    """A program of a user, elsewhere, with the installed package; the last line must be an error."""
    script = tmp_path / "program.py"
    script.write_text(USER_SCRIPT)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
