"""Commits a group so that what cannot be committed fails alone."""

import secrets
from collections.abc import Callable, Sequence

import structlog

from entitlements_server.errors import CallError, InternalError
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.stores.alerts import Alerts
from entitlements_server.stores.interface import (
    CommandResult,
    DamagedRecordError,
    Failed,
    Store,
    StoreUnavailableError,
)

log = structlog.get_logger()


class Bisection:
    """Commits groups, by halves where the whole cannot be committed.

    Args:
        store: Where to commit.
        alerts: Reports damaged records.
    """

    def __init__(self, store: Store, alerts: Alerts) -> None:
        self._store = store
        self._alerts = alerts

    async def commit(
        self, commands: Sequence[Command], bind: Callable[[], Rule]
    ) -> Sequence[CommandResult]:
        """Commit commands and return the result of each. Never raises.

        Args:
            commands: The group.
            bind: Returns the rules, with catalogue and time as they are then. A CallError that it raises is
                the result of every command.
        """
        try:
            rule = bind()
        except CallError as error:
            return [Failed(error)] * len(commands)
        try:
            results = await self._store.commit(commands, rule)
        except StoreUnavailableError as error:
            return [Failed(error)] * len(commands)
        except Exception as error:  # noqa: BLE001  # nothing was stored: see Store.commit
            users = list(dict.fromkeys(command.user_id for command in commands))
            if len(users) == 1:
                return [self._failed(users[0], error)] * len(commands)
            return await self._by_halves(commands, set(users[: len(users) // 2]), bind)
        if not any(type(result) is Failed for result in results):
            return results
        failures: dict[str, Failed] = {}
        for command, result in zip(commands, results, strict=True):
            if isinstance(result, Failed) and command.user_id not in failures:
                failures[command.user_id] = self._failed(command.user_id, result.error)
        return [
            failures[command.user_id] if isinstance(result, Failed) else result
            for command, result in zip(commands, results, strict=True)
        ]

    async def _by_halves(
        self, commands: Sequence[Command], first_half: set[str], bind: Callable[[], Rule]
    ) -> Sequence[CommandResult]:
        """Commit the commands of some users, then those of the others."""
        halves: tuple[list[int], list[int]] = ([], [])
        for index, command in enumerate(commands):
            halves[command.user_id not in first_half].append(index)
        found: dict[int, CommandResult] = {}
        for half in halves:
            of_half = await self.commit([commands[index] for index in half], bind)
            found.update(zip(half, of_half, strict=True))
        return [found[index] for index in range(len(commands))]

    def _failed(self, user_id: str, error: Exception) -> Failed:
        """Report that the part of a user failed. Returns the result of each of its commands."""
        if isinstance(error, DamagedRecordError):
            self._alerts.damaged(error)
        if isinstance(error, CallError):
            return Failed(error)
        reference = secrets.token_hex(8)
        log.error(
            "The part of a user in a group failed with an unexpected error, and nothing of it was"
            " stored: run `entitlements-server verify`, which names damaged records of the user.",
            reference=reference,
            user_id=user_id,
            exc_info=error,
        )
        return Failed(InternalError(reference))
