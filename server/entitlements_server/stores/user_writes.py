"""Commits and appends on stores that write each user's part on its own.

Such a store decides for one user at a time, and again when another server was faster.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.state import Entry, ReadSet, State, append_all, decide_group
from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.interface import CommandResult, Failed, StoreUnavailableError

Decide = Callable[[State], tuple[Sequence[Entry], Any]]
"""Decides for one user. Returns what to store and what to answer then. Updates the state."""


class UserWrite(Protocol):
    """What a group writes for one user."""

    @property
    def is_pending(self) -> bool:
        """Whether it is neither stored nor given up."""

    @property
    def state(self) -> State | None:
        """The state for the next decision; None: it must be prefetched."""

    @property
    def error(self) -> Exception | None:
        """Why it was given up, once it was."""

    @property
    def answer(self) -> Any:
        """What its decision said to answer, once that is stored."""


_Write = TypeVar("_Write", bound=UserWrite)

Make = Callable[[str, int, ReadSet, Decide], _Write]
"""Makes the write of a user. Takes the user, the number of commands or transactions, what must be read, and
how to decide."""


async def commit(
    commands: Sequence[Command],
    rule: Rule,
    make: Make[_Write],
    write: Callable[[Sequence[_Write]], Awaitable[None]],
) -> Sequence[CommandResult]:
    """Commit a group: see Store.commit.

    Args:
        commands: The group.
        rule: The rules.
        make: Makes the write of a user.
        write: Stores writes. On return each is stored or given up.
    """
    indexes: dict[str, list[int]] = {}
    for index, command in enumerate(commands):
        indexes.setdefault(command.user_id, []).append(index)
    writes = []
    for user_id, mine in indexes.items():
        part = [commands[index] for index in mine]
        writes.append(make(user_id, len(part), ReadSet.of(part), partial(_decide, part, rule)))
    await write(writes)
    errors = [one.error for one in writes]
    if writes and all(isinstance(error, StoreUnavailableError) for error in errors):
        assert errors[0] is not None
        raise errors[0]
    results: list[Any] = [None] * len(commands)
    for one, mine in zip(writes, indexes.values(), strict=True):
        # What is stored is answered, whatever failed afterwards.
        answers = one.answer
        if answers is None:
            assert one.error is not None
            answers = [Failed(one.error)] * len(mine)
        for index, answer in zip(mine, answers, strict=True):
            results[index] = answer
    return results


async def append(
    transactions: Sequence[Transaction],
    make: Make[_Write],
    prefetch: Callable[[Sequence[_Write]], Awaitable[None]],
    write: Callable[[Sequence[_Write]], Awaitable[None]],
) -> None:
    """Store transactions unchanged: see Store.append.

    None is stored if one of them cannot be, unless another server writes for the same users.

    Args:
        transactions: Each the next one of its user.
        make: Makes the write of a user.
        prefetch: Reads the states of writes. Some may have to be read again.
        write: Stores writes. On return each is stored or given up.
    """
    by_user: dict[str, list[Transaction]] = {}
    for transaction in transactions:
        by_user.setdefault(transaction.user_id, []).append(transaction)
    writes = [
        make(user_id, len(part), ReadSet.of_transactions(part), partial(_append, part))
        for user_id, part in by_user.items()
    ]
    while any(one.is_pending and one.state is None for one in writes):
        await prefetch(writes)
    _raise_first(writes)
    for one, part in zip(writes, by_user.values(), strict=True):
        # Check all of them before the first is stored.
        assert one.state is not None
        append_all(one.state.copy(), part)
    await write(writes)
    _raise_first(writes)


def _decide(commands: Sequence[Command], rule: Rule, state: State) -> tuple[Sequence[Entry], Any]:
    decided = decide_group(state, commands, rule)
    return decided.entries, decided.outcomes


def _append(transactions: Sequence[Transaction], state: State) -> tuple[Sequence[Entry], Any]:
    return append_all(state, transactions), None


def _raise_first(writes: Sequence[UserWrite]) -> None:
    for one in writes:
        if one.error is not None:
            raise one.error
