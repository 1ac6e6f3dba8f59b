"""Switches that break a promise on purpose: with one of them on, a check has to fail.

They reach into the product from outside, in a test's process or by `python -m faults.broken_server`;
the product has no such switches. Each says which promise it breaks.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, partialmethod
from typing import Any
from unittest.mock import patch

import apsw
from msgspec import structs

from entitlements_server.api import reporter
from entitlements_server.api.status import status_of
from entitlements_server.engine import engine
from entitlements_server.errors import OverloadedError
from entitlements_server.ledger import decide as rules
from entitlements_server.ledger import grants, replay, settlement, state, windows
from entitlements_server.ledger.catalogue import Access
from entitlements_server.ledger.commands import Consume
from entitlements_server.ledger.decide import decide
from entitlements_server.ledger.encoding import decode_transaction
from entitlements_server.ledger.errors import PriceChangedError
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.outcomes import Recorded, Rejected, Replayed
from entitlements_server.ledger.values import NO_FACTS, Charge, Facts, Kind, Transaction
from entitlements_server.stores import memory
from entitlements_server.stores.postgresql import account_write as postgresql_write
from entitlements_server.stores.postgresql import writer as postgresql_writer
from entitlements_server.stores.redis import writer as redis_writer
from entitlements_server.stores.redis.account_write import AccountWrite
from entitlements_server.stores.redis.connection import LostError
from entitlements_server.stores.sqlite import connections, database
from entitlements_server.stores.sqlite import store as sqlite
from entitlements_server.stores.sqlite import writer as sqlite_writer
from entitlements_server.transport.interface import CallStatus

Patch = Callable[[Any, str, Any], None]


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Have one promise broken in this process while the block runs; "" breaks none."""
    with ExitStack() as stack:
        if name:
            BREAKS[name](lambda *what: stack.enter_context(patch.object(*what)))
        yield


def _reply_before_commit(change: Patch) -> None:
    """A reply means: it is durable."""
    write = database.Database.append_log

    def later(self: Any, stored: Any) -> int:
        held = self.__dict__.setdefault("held", [])
        held.append(list(stored))
        if len(held) >= 8:
            for group in held:
                self.written = write(self, group)
            held.clear()
        return getattr(self, "written", 0)

    change(database.Database, "append_log", later)


def _synchronous_normal(change: Patch) -> None:
    """Durable means: it survives a power loss."""

    class Careless(apsw.Connection):
        def pragma(self, name: str, value: Any = None, **rest: Any) -> Any:
            if value is None:
                return super().pragma(name, **rest)
            return super().pragma(name, "normal" if name == "synchronous" else value, **rest)

    change(apsw, "Connection", Careless)


def _decision(change: Patch, wrap: Callable[..., Any]) -> None:
    change(rules, "decide", partial(wrap, decide))


def _key_after_balance(change: Patch) -> None:
    """A retry of a charge that succeeded succeeds, whatever the balance is by now."""

    def decide(right: Any, account: Any, facts: Any, command: Any, *rest: Any) -> Any:
        outcome = right(account, NO_FACTS, command, *rest)
        new_charge = isinstance(command, Consume) and isinstance(outcome, Recorded)
        if new_charge and facts.bound and rules.denial(outcome.transaction):
            return outcome
        return right(account, facts, command, *rest)

    _decision(change, decide)


def _denial_unrecorded(change: Patch) -> None:
    """A denied attempt stands in the history."""

    def decide(right: Any, *facts: Any) -> Any:
        outcome = right(*facts)
        if isinstance(outcome, Recorded) and (denied := rules.denial(outcome.transaction)):
            return Rejected(denied)
        return outcome

    _decision(change, decide)


def _key_shared_by_users(change: Patch) -> None:
    """A key belongs to one user."""
    seen: dict[str, Transaction] = {}

    def decide(right: Any, account: Any, facts: Any, command: Any, *rest: Any) -> Any:
        bound = facts.bound or seen.get(command.idempotency_key)
        outcome = right(account, structs.replace(facts, bound=bound), command, *rest)
        if isinstance(outcome, Recorded) and outcome.transaction.binds_key:
            seen[command.idempotency_key] = outcome.transaction
        return outcome

    _decision(change, decide)


def _keys_bind_nothing(change: Patch) -> None:
    """A key binds a charge: sent again, it is answered with that."""
    change(Transaction, "binds_key", property(lambda _: False))


def _denial_binds_key(change: Patch) -> None:
    """A denial binds nothing: after a top-up the same request succeeds."""
    change(Transaction, "binds_key", property(lambda self: bool(self.idempotency_key)))


def _refund_twice(change: Patch) -> None:
    """The refunds of a charge add up to at most the charge."""
    change(Charge, "remaining", property(lambda self: self.transaction.cost))


def _denied_when_exact(change: Patch) -> None:
    """A balance that equals the cost is enough."""
    change(Access, "allowed", property(lambda self: self.available > self.required))


def _key_compared_loosely(change: Patch) -> None:
    """Another request under a bound key is rejected."""
    change(replay, "_difference", lambda *_: None)


def _twins_charged(change: Patch) -> None:
    """Two requests with one key that meet in one group are one charge."""

    def decide_group(known: state.State, commands: Any, rule: Any) -> state.Decided:
        before = dict(known.keys)
        outcomes, entries = [], []
        for command in commands:
            bound = before.get((command.user_id, command.idempotency_key))
            facts = structs.replace(known.facts(command), bound=bound)
            outcome = rule(known.account(command.user_id), facts, command)
            entries += [known.apply(one) for one in outcome.transactions]
            outcomes.append(outcome)
        return state.Decided(outcomes, entries)

    for module in (sqlite_writer, memory):
        change(module, "decide_group", decide_group)


def _stale_read(change: Patch) -> None:
    """A read that begins after a write was acknowledged sees that write."""
    read = sqlite.SqliteStore.account
    old: dict[str, list[Any]] = {}

    async def account(self: Any, user_id: str) -> Any:
        seen = old.setdefault(user_id, [])
        seen.append(await read(self, user_id))
        return seen[-min(len(seen), 3)]

    change(sqlite.SqliteStore, "account", account)


def _refused_yet_charged(change: Patch) -> None:
    """A request that is shed as OVERLOADED has charged nothing."""
    submit = engine.Engine.submit
    tasks = []

    async def submit_anyway(self: Any, commands: Any, deadline: float | None = None) -> Any:
        try:
            return await submit(self, commands, deadline)
        except OverloadedError:
            task = asyncio.ensure_future(self._bisection._store.commit(commands, self._rule()))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            tasks.append(task)
            raise

    change(engine.Engine, "submit", submit_anyway)


def _keys_lost_on_restart(change: Patch) -> None:
    """Keys don't expire while their transaction exists."""
    run = database.Database._run

    def without_keys(self: Any, name: str, rows: Any, *more: bytes) -> None:
        if name != "flush_keys":
            run(self, name, rows, *more)

    change(database.Database, "_run", without_keys)


def _sync_trusted_after_failure(change: Patch) -> None:
    """What a failed sync left in the page cache is not taken for what is on the disk."""
    change(sqlite_writer, "rewrite_wal", lambda _: None)


def _work_goes_on_after_a_failure(change: Patch) -> None:
    """Nothing is written after a sync that failed."""
    change(connections, "_unless_failed", lambda writer, work: partial(work, writer))


def _log_left(change: Patch) -> None:
    """A clean stop leaves one file."""
    change(database.Database, "_checkpoint_and_remove_wal", lambda _: None)


def _errors_sent_verbatim(change: Patch) -> None:
    """No text of an exception reaches a caller."""

    def verbatim(error: Exception, reference: str) -> CallStatus:
        return replace(status_of(error, reference), message=repr(error))

    change(reporter, "status_of", verbatim)


def _calls_hoarded(change: Patch) -> None:
    """What belongs to a call ends with it."""
    commit = sqlite.SqliteStore.commit
    hoard: list[bytearray] = []

    async def hoarding(self: Any, commands: Any, rule: Any) -> Any:
        hoard.extend(bytearray(b"x" * 4096) for _ in commands)
        return await commit(self, commands, rule)

    change(sqlite.SqliteStore, "commit", hoarding)


def _rejections_hoarded(change: Patch) -> None:
    """What belongs to a call that failed ends with it."""
    failed = reporter.Reporter.failed
    hoard: list[bytearray] = []

    def hoarding(self: Any, *what: Any) -> Any:
        hoard.append(bytearray(b"x" * 2**15))
        return failed(self, *what)

    change(reporter.Reporter, "failed", hoarding)


def _lost_reply_taken_for_success(change: Patch) -> None:
    """A write whose reply is lost is looked for before it is acknowledged."""
    take = redis_writer.Writer._take

    def careless(self: Any, write: Any, attempt: Any, reply: Any) -> None:
        if isinstance(reply, LostError):
            write.done = attempt
        else:
            take(self, write, attempt, reply)

    change(redis_writer.Writer, "_take", careless)
    doubt = postgresql_writer._doubt

    def credulous(write: Any, attempt: Any, problem: Any) -> None:
        doubt(write, attempt, problem)
        write.done = attempt

    change(postgresql_writer, "_doubt", credulous)


def _lost_reply_taken_for_failure(change: Patch) -> None:
    """A write whose reply is lost is looked for before it is made again."""
    for kind in (AccountWrite, postgresql_write.AccountWrite):
        change(kind, "prefetch", partialmethod(_forgetful, kind.prefetch))


def _forgetful(write: Any, prefetch: Any) -> Any:
    write.doubtful.clear()
    return prefetch(write)


def _lapsed_grant_spent(change: Patch) -> None:
    """No token is spent after its expiry."""
    change(rules, "settled", lambda account, _: account)
    change(grants, "open_grants", lambda account, _: account.grants)


def _grant_refunded_to_pool(change: Patch) -> None:
    """What is given back goes to where it came from."""
    change(grants, "returned", lambda *_: ())


def _expired_early(change: Patch) -> None:
    """Tokens are there until their expiry."""
    lapsed = grants.lapsed_grants
    change(settlement, "lapsed_grants", lambda account, us: lapsed(account, us + 3600 * SECOND_US))


def _window_open_after_refund(change: Patch) -> None:
    """Access ends when all of its charge was given back."""

    def is_open(charge: Any, now_us: int) -> bool:
        return bool(charge.transaction.access_until_us > now_us)

    change(windows, "is_open", is_open)


def _window_charged_again(change: Patch) -> None:
    """One charge gives access to an event for a while."""
    change(windows, "is_open", lambda *_: False)


def _covered_binds_key(change: Patch) -> None:
    """An answer that an access window covers binds no key."""
    kept: dict[tuple[str, str], Transaction] = {}

    def decide(right: Any, account: Any, facts: Any, command: Any, *rest: Any) -> Any:
        key = (command.user_id, command.idempotency_key)
        if key in kept and facts.bound is None:
            return right(account, Facts(kept[key]), command, *rest)
        outcome = right(account, facts, command, *rest)
        if isinstance(outcome, Replayed) and outcome.covered and command.idempotency_key:
            kept[key] = outcome.transaction
        return outcome

    _decision(change, decide)


def _price_guard_compared(change: Patch) -> None:
    """The retry of a paid call succeeds, whatever price it accepts by now."""

    def decide(right: Any, account: Any, facts: Any, command: Any, *rest: Any) -> Any:
        outcome = right(account, facts, command, *rest)
        guard = getattr(command, "max_cost", None)
        if isinstance(outcome, Replayed) and guard is not None and guard < outcome.transaction.cost:
            return Rejected(PriceChangedError(feature="", max_cost=guard, cost=0))
        return outcome

    _decision(change, decide)


def _expiry_lost(change: Patch) -> None:
    """What a decision records is durable whole: the expiry, too, that stands in front of a write."""
    append_log = database.Database.append_log

    def without_expiries(self: Any, stored: Any) -> int:
        kept = [one for one in stored if decode_transaction(one).kind is not Kind.EXPIRE]
        return append_log(self, kept)

    change(database.Database, "append_log", without_expiries)


BREAKS: dict[str, Callable[[Patch], None]] = {
    "reply-before-commit": _reply_before_commit,
    "synchronous-normal": _synchronous_normal,
    "key-after-balance": _key_after_balance,
    "denial-unrecorded": _denial_unrecorded,
    "key-shared-by-users": _key_shared_by_users,
    "keys-bind-nothing": _keys_bind_nothing,
    "denial-binds-key": _denial_binds_key,
    "refund-twice": _refund_twice,
    "denied-when-exact": _denied_when_exact,
    "key-compared-loosely": _key_compared_loosely,
    "twins-charged": _twins_charged,
    "stale-read": _stale_read,
    "refused-yet-charged": _refused_yet_charged,
    "keys-lost-on-restart": _keys_lost_on_restart,
    "sync-trusted-after-failure": _sync_trusted_after_failure,
    "work-goes-on-after-a-failure": _work_goes_on_after_a_failure,
    "log-left": _log_left,
    "errors-sent-verbatim": _errors_sent_verbatim,
    "calls-hoarded": _calls_hoarded,
    "rejections-hoarded": _rejections_hoarded,
    "lost-reply-taken-for-success": _lost_reply_taken_for_success,
    "lost-reply-taken-for-failure": _lost_reply_taken_for_failure,
    "lapsed-grant-spent": _lapsed_grant_spent,
    "grant-refunded-to-pool": _grant_refunded_to_pool,
    "expired-early": _expired_early,
    "window-open-after-refund": _window_open_after_refund,
    "window-charged-again": _window_charged_again,
    "covered-binds-key": _covered_binds_key,
    "price-guard-compared": _price_guard_compared,
    "expiry-lost": _expiry_lost,
}
"""The switches by name."""

OF_RULES = sorted(
    set(BREAKS)
    - {
        "synchronous-normal",  # only a power loss shows it
        "sync-trusted-after-failure",  # only a power loss right after a failed sync
        "work-goes-on-after-a-failure",  # likewise
        "log-left",  # stops.py
        "keys-bind-nothing",  # worker_faults.py
        "errors-sent-verbatim",  # hostile.py
        "rejections-hoarded",  # likewise
        "calls-hoarded",  # soak.py
        "lost-reply-taken-for-success",  # redis_faults.py, postgresql_faults.py
        "lost-reply-taken-for-failure",  # likewise
        "expiry-lost",  # only a kill or a power loss shows it
    }
)
"""Those that a history of requests and answers shows."""
