"""Write what is said of errors in other places than their classes: docs/errors.md and the drawn tree.

`python docs/generate.py` writes them. With `--check` it says which are stale, with exit status 1.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import entitlements_server.api.errors
import entitlements_server.ledger.errors
import entitlements_server.stores.format  # noqa: F401  # importing these makes the tree whole
from entitlements.v1.errors_pb2 import ErrorReason
from entitlements_server.errors import CallError

ROOT = Path(__file__).parents[1]

DRAWING = re.compile(r"^    CallError\n.*?\n\n", re.MULTILINE | re.DOTALL)
"""The tree in the docstring of errors.py."""

PAGE = """\
# Errors

<!-- Generated from the classes of errors by `make docs`: edit those, or docs/generate.py. -->

Every error that the service decides on ends the call with a status code, a sentence that says what is wrong, what was
not done and what to do, and a `google.rpc.ErrorInfo`: its domain is `entitlements`, its `reason` a name of the public
enum `ErrorReason` without the prefix, and its `metadata` repeats as text the values in the sentence. `INVALID_FIELD`
comes with a `google.rpc.BadRequest` that names the field; whatever should be sent again after a while comes with a
`google.rpc.RetryInfo` and the trailer `grpc-retry-pushback-ms`.

{reasons}

A balance that is too small is FAILED_PRECONDITION and not RESOURCE_EXHAUSTED, because many middlewares send the
latter again, and that doesn't help before a top-up.

## Without a reason

Of what is not in the contract its reasons say nothing: these have a code and a sentence, and no `ErrorInfo`. So has
whatever gRPC ends by itself: too large a request, a passed deadline, a lost connection.

{others}

## Which RPC answers what

In the order in which they are found. Each may also be answered with any reason that is not in this table.

| RPC | idempotent | reasons |
|---|---|---|
| CheckAccess, BatchCheckAccess | reads only | INVALID_FIELD, UNKNOWN_FEATURE |
| Consume | by key; in an access window | INVALID_FIELD, IDEMPOTENCY_KEY_REUSED, UNKNOWN_FEATURE, \
PRICE_CHANGED, INSUFFICIENT_TOKENS |
| BatchConsume | by the keys of its requests | INVALID_FIELD; those of Consume stand in each result |
| Refund | by key; a full refund also by its charge | INVALID_FIELD, IDEMPOTENCY_KEY_REUSED, \
TRANSACTION_NOT_FOUND, NOT_REFUNDABLE, REFUND_EXCEEDS_CHARGE, BALANCE_LIMIT_EXCEEDED |
| TopUp | by key | INVALID_FIELD, IDEMPOTENCY_KEY_REUSED, TOO_MANY_GRANTS, BALANCE_LIMIT_EXCEEDED |
| SetBalance | by key | INVALID_FIELD, IDEMPOTENCY_KEY_REUSED |
| GetAccount, ListTransactions | reads only | INVALID_FIELD |
| GetTransaction | reads only | INVALID_FIELD, TRANSACTION_NOT_FOUND |
| ListFeatures | reads only | |

## Adding a reason

1. A value of `ErrorReason` in `protos/entitlements/v1/errors.proto`, then `make proto`.
2. A class below `LedgerError` or `NotAdmittedError`, with `reason`, `code`, `remedy` and `metadata_keys`.
3. Where it is raised.

Then `make docs` writes this page, and the tree in `errors.py`. A test fails while classes and enum differ, and one
while either is stale.
"""


def main() -> int:
    """Write the files, or check them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    module = ROOT / "server" / "entitlements_server" / "errors.py"
    drawing = f"    CallError\n{tree(CallError)}\n"
    files = {
        ROOT / "docs" / "errors.md": errors_page(),
        module: DRAWING.sub(lambda _: drawing, module.read_text(), 1),
    }
    if not arguments.parse_args().check:
        for file, content in files.items():
            file.write_text(content)
        return 0
    stale = [file.name for file, content in files.items() if file.read_text() != content]
    if not stale:
        return 0
    print(
        f"{' and '.join(stale)}: not as the classes of errors are. Run `make docs`.",
        file=sys.stderr,
    )
    return 1


def errors_page() -> str:
    """Return the page."""
    kinds = sorted(met_by_callers(CallError), key=_order)
    reasons = _table(
        ("reason", "code", "when", "metadata", "what to do"),
        [
            (f"`{kind.reason}`", kind.code, _when(kind), _keys(kind), kind.remedy)
            for kind in kinds
            if kind.reason
        ],
    )
    others = _table(
        ("code", "when", "what to do"),
        [(kind.code, _when(kind), kind.remedy) for kind in kinds if not kind.reason],
    )
    return PAGE.format(reasons=reasons, others=others)


def tree(kind: type[CallError], indent: str = "    ") -> str:
    """Return the classes below one, drawn as a tree."""
    lines = ""
    below = kind.__subclasses__()
    for one in below:
        last = one is below[-1]
        head = f"{indent}{'└' if last else '├'}── {one.__name__}"
        lines += f"{head:42} {_when(one).removesuffix('.')}\n"
        lines += tree(one, indent + ("    " if last else "│   "))
    return lines


def met_by_callers(kind: type[CallError]) -> Iterator[type[CallError]]:
    """Return the classes of the tree that calls end with, depth first."""
    if hasattr(kind, "code"):
        yield kind
    for below in kind.__subclasses__():
        yield from met_by_callers(below)


def _order(kind: type[CallError]) -> tuple[int, int, str]:
    """As in the contract; of one reason the general error before the special one."""
    number = ErrorReason.Value(f"ERROR_REASON_{kind.reason}") if kind.reason else 0
    return number, len(kind.__mro__), kind.__name__


def _when(kind: type[CallError]) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def _keys(kind: type[CallError]) -> str:
    return ", ".join(f"`{key}`" for key in kind.metadata_keys)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
