"""What verify has to say of a ledger, in bounded memory."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from entitlements_server.maintenance.verify import NO_WITNESS, Witness, verify
from entitlements_server.stores.interface import Finding, Progress, Store, silent

MAX_FINDINGS = 10_000
"""Findings after which verify gives up: the ledger is not worth more time."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification.

    Attributes:
        transactions: Number of transactions in the ledger.
        findings: What is wrong.
        warnings: What operators should know, although it holds: the first MAX_FINDINGS.
        is_complete: Whether all of the ledger was checked: there were not too many findings.
    """

    transactions: int
    findings: Sequence[Finding]
    warnings: Sequence[Finding]
    is_complete: bool

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "holds": self.holds,
            "is_complete": self.is_complete,
            "transactions": self.transactions,
            "findings": _as_json(self.findings),
            "warnings": _as_json(self.warnings),
        }


def _as_json(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [
        {"user_id": one.user_id, "transaction_id": one.transaction_id, "what": one.what}
        for one in findings
    ]


async def report(
    store: Store,
    progress: Progress = silent,
    witness: Witness = NO_WITNESS,
    *,
    now_us: int | None = None,
) -> Report:
    """Verify a ledger.

    Args:
        store: The ledger.
        progress: Reports transactions.
        witness: Sees every account as it is recomputed.
        now_us: The time, see verify.
    """
    transactions = 0

    def counting(done: int, total: int) -> None:
        nonlocal transactions
        transactions = total
        progress(done, total)

    findings: list[Finding] = []
    warnings: list[Finding] = []
    async with aclosing(verify(store, counting, now_us=now_us, witness=witness)) as found:
        async for finding in found:
            if finding.is_warning:
                if len(warnings) < MAX_FINDINGS:
                    warnings.append(finding)
                continue
            findings.append(finding)
            if len(findings) >= MAX_FINDINGS:
                return Report(transactions, findings, warnings, is_complete=False)
    return Report(transactions, findings, warnings, is_complete=True)
