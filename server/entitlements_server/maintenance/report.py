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
        is_complete: Whether all of the ledger was checked: there were not too many findings.
    """

    transactions: int
    findings: Sequence[Finding]
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
            "findings": [
                {"user_id": one.user_id, "transaction_id": one.transaction_id, "what": one.what}
                for one in self.findings
            ],
        }


async def report(
    store: Store, progress: Progress = silent, witness: Witness = NO_WITNESS
) -> Report:
    """Verify a ledger.

    Args:
        store: The ledger.
        progress: Reports transactions.
        witness: Sees every account as it is recomputed.
    """
    transactions = 0

    def counting(done: int, total: int) -> None:
        nonlocal transactions
        transactions = total
        progress(done, total)

    findings: list[Finding] = []
    async with aclosing(verify(store, counting, witness=witness)) as found:
        async for finding in found:
            findings.append(finding)
            if len(findings) >= MAX_FINDINGS:
                return Report(transactions, findings, is_complete=False)
    return Report(transactions, findings, is_complete=True)
