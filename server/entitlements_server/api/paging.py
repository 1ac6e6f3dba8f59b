"""Pages of a history: filters and page tokens."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.validation import check_id, check_optional_id
from entitlements_server.ledger.values import Kind, Status, Transaction
from entitlements_server.stores.interface import MAX_PAGE, Store

DEFAULT_PAGE_SIZE = 100
"""Transactions per page if the request sets no page size."""

_NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """A query for a page of a user's history. Empty text and zero mean no filter.

    Raises:
        InvalidFieldError: A field is malformed or out of range.
    """

    user_id: str
    page_size: int = 0
    page_token: str = ""
    feature: str = ""
    kind: int = 0
    status: int = 0

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        if not 0 <= self.page_size <= MAX_PAGE:
            raise InvalidFieldError("page_size", f"must be 0 to {MAX_PAGE}, not {self.page_size}")
        check_optional_id("feature", self.feature)
        if self.kind not in (0, *Kind):
            raise InvalidFieldError("kind", f"must be a TransactionKind, not {self.kind}")
        if self.status not in (0, *Status):
            raise InvalidFieldError("status", f"must be a TransactionStatus, not {self.status}")

    async def read(self, store: Store) -> tuple[Sequence[Transaction], str]:
        """Read the page: matching transactions, newest first, and the token of the next page.

        Searches at most MAX_PAGE transactions, so that the time does not depend on how rare a match
        is.
        """
        size = self.page_size or DEFAULT_PAGE_SIZE
        filtered = bool(self.feature or self.kind or self.status)
        # One more than the page shows whether there is a next one.
        limit = MAX_PAGE if filtered else min(size + 1, MAX_PAGE)
        seen = await store.history(self.user_id, self._before(), limit)
        matching = [transaction for transaction in seen if self._matches(transaction)]
        if len(matching) > size:
            last = matching[size - 1].sequence
        else:
            last = seen[-1].sequence if seen else 1
        return matching[:size], self._token(last) if last > 1 else ""

    def _matches(self, transaction: Transaction) -> bool:
        return (
            self.feature in ("", transaction.feature)
            and self.kind in (0, transaction.kind)
            and self.status in (0, transaction.status)
        )

    def _token(self, before: int) -> str:
        return base64.urlsafe_b64encode(f"{before}.{self._digest()}".encode()).decode()

    def _before(self) -> int:
        if not self.page_token:
            return _NEWEST
        try:
            text, digest = base64.urlsafe_b64decode(self.page_token).decode().split(".")
            before = int(text)
        except (binascii.Error, ValueError):
            before, digest = 0, ""
        if digest != self._digest() or not 1 < before < _NEWEST:
            raise InvalidFieldError(
                "page_token", "must be the next_page_token of the previous page of the same request"
            )
        return before

    def _digest(self) -> str:
        """Bind a token to its request: with another request it would skip or repeat transactions."""
        request = repr((self.user_id, self.feature, self.kind, self.status)).encode()
        return blake2b(request, digest_size=6).hexdigest()
