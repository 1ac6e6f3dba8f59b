"""The commands. Each makes one call of the API."""

from datetime import datetime, timedelta
from itertools import dropwhile, islice, takewhile
from pathlib import Path
from typing import Annotated, Literal

import typer

from entitlements import TransactionKind, TransactionStatus
from entitlements._channel import DEFAULT_DEADLINE_S
from entitlements.cli import _show
from entitlements.cli._arguments import Labels, labels_of, parse_period
from entitlements.cli._options import Json, Version, json_for_command, parse_time
from entitlements.cli._session import DENIED, Options, session

_MAX_PAGE = 1000

app = typer.Typer(
    name="entitlements",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tokens buy depth of analysis. Check access, charge, refund and top up. "
    "Exit status: 0 done, 1 denied, 2 failed.",
)

User = Annotated[str, typer.Argument(metavar="USER_ID", help="The user.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]
Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key is done once. Default: a new key."),
]


def _path(flag: str, what: str) -> typer.models.OptionInfo:
    name = flag.removeprefix("--").replace("-", "_").upper()
    option: typer.models.OptionInfo = typer.Option(
        flag, envvar=f"ENTITLEMENTS_{name}", metavar="FILE", help=what
    )
    return option


@app.callback()
def connect(
    context: typer.Context,
    *,
    address: Annotated[
        str,
        typer.Option(
            envvar="ENTITLEMENTS_ADDRESS",
            metavar="HOST:PORT",
            help="Address of the service. Several IP:PORT, separated by commas, are called in turn.",
        ),
    ] = "127.0.0.1:50051",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ENTITLEMENTS_TOKEN",
            metavar="TOKEN",
            help="Bearer token. Set it in the environment to keep it out of the process list.",
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Use TLS and trust the public authorities.")
    ] = False,
    root_certificates: Annotated[
        Path | None, _path("--root-certificates", "Use TLS and trust these (PEM).")
    ] = None,
    client_certificate: Annotated[
        Path | None,
        _path("--client-certificate", "Certificate of this program, for mutual TLS (PEM)."),
    ] = None,
    client_key: Annotated[
        Path | None, _path("--client-key", "Private key of that certificate (PEM).")
    ] = None,
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline", metavar="SECONDS", help="Longest time for a call, retries included."
        ),
    ] = DEFAULT_DEADLINE_S,
    as_json: Json = False,
    version: Version = False,  # noqa: ARG001  # its callback has done it
) -> None:
    """Keep the options for the command that follows."""
    json_for_command(context, as_json=as_json)
    context.obj = Options(
        address=address,
        token=token,
        tls=tls,
        root_certificates=root_certificates,
        client_certificate=client_certificate,
        client_key=client_key,
        deadline_s=deadline_s,
    )


@app.command()
def check(
    context: typer.Context,
    user_id: User,
    features: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEATURE]...", help="The features. None: the whole catalogue."),
    ] = None,
    *,
    event_id: Annotated[
        str, typer.Option(help="The analysed event: access that was paid for counts.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check whether a user could be charged now. Exit status 1 if a feature you name is denied."""
    with session(context, as_json=as_json) as client:
        found = client.batch_check_access(user_id, features or (), event_id=event_id)
        _show.accesses(user_id, found, as_json=as_json)
    if features and not all(each.allowed for each in found):
        raise typer.Exit(DENIED)


@app.command()
def consume(
    context: typer.Context,
    user_id: User,
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help="The feature to charge for.")],
    *,
    event_id: Annotated[
        str, typer.Option(help="The analysed event. If it is paid for already, it costs nothing.")
    ] = "",
    quantity: Annotated[
        int, typer.Option(min=1, max=10**6, help="How many uses to charge for.")
    ] = 1,
    max_cost: Annotated[
        int | None,
        typer.Option(min=0, max=10**12, help="Highest total cost to accept. Default: any."),
    ] = None,
    idempotency_key: Key = None,
    label: Labels = None,
    as_json: Json = False,
) -> None:
    """Charge a user for uses of a feature. Exit status 1 if the tokens do not cover it."""
    labels = labels_of(label)
    with session(context, as_json=as_json) as client:
        done = client.consume(
            user_id,
            feature,
            event_id=event_id,
            idempotency_key=idempotency_key,
            quantity=quantity,
            max_cost=max_cost,
            labels=labels,
        )
        _show.transaction(done, as_json=as_json)


@app.command()
def refund(
    context: typer.Context,
    user_id: User,
    transaction_id: Annotated[
        str, typer.Argument(metavar="TRANSACTION_ID", help="The charge to refund.")
    ],
    *,
    amount: Annotated[
        int, typer.Option(min=0, max=10**12, help="Tokens to refund. 0: all that remain.")
    ] = 0,
    reason: Reason = "",
    idempotency_key: Key = None,
    label: Labels = None,
    as_json: Json = False,
) -> None:
    """Refund a charge, whole or in part."""
    labels = labels_of(label)
    with session(context, as_json=as_json) as client:
        done = client.refund(
            user_id,
            transaction_id,
            amount,
            reason=reason,
            idempotency_key=idempotency_key,
            labels=labels,
        )
        _show.transaction(done, as_json=as_json)


@app.command()
def top_up(
    context: typer.Context,
    user_id: User,
    amount: Annotated[int, typer.Argument(metavar="AMOUNT", min=1, max=10**12, help="Tokens.")],
    *,
    expire_time: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="When they expire. Default: never."),
    ] = None,
    lifetime: Annotated[
        timedelta | None,
        typer.Option(parser=parse_period, metavar="PERIOD", help="How long they last, as 30d."),
    ] = None,
    reason: Reason = "",
    idempotency_key: Key = None,
    label: Labels = None,
    as_json: Json = False,
) -> None:
    """Add tokens to an account. They may expire: at a time, or after a period."""
    labels = labels_of(label)
    if expire_time and lifetime:
        raise typer.BadParameter("Give --expire-time or --lifetime, not both.")
    with session(context, as_json=as_json) as client:
        done = client.top_up(
            user_id,
            amount,
            expire_time=expire_time,
            lifetime=lifetime,
            reason=reason,
            idempotency_key=idempotency_key,
            labels=labels,
        )
        _show.transaction(done, as_json=as_json)


@app.command()
def set_balance(
    context: typer.Context,
    user_id: User,
    balance: Annotated[
        int, typer.Argument(metavar="BALANCE", min=0, max=2**53 - 1, help="Tokens.")
    ],
    *,
    reason: Reason = "",
    idempotency_key: Key = None,
    label: Labels = None,
    as_json: Json = False,
) -> None:
    """Set the balance of an account. The difference is recorded."""
    labels = labels_of(label)
    with session(context, as_json=as_json) as client:
        done = client.set_balance(
            user_id, balance, reason=reason, idempotency_key=idempotency_key, labels=labels
        )
        _show.transaction(done, as_json=as_json)


@app.command()
def balance(context: typer.Context, user_id: User, *, as_json: Json = False) -> None:
    """Show an account: its tokens, and which of them expire when."""
    with session(context, as_json=as_json) as client:
        _show.account(client.get_account(user_id), as_json=as_json)


@app.command()
def history(
    context: typer.Context,
    user_id: User,
    *,
    feature: Annotated[str, typer.Option(help="Only of this feature.")] = "",
    kind: Annotated[
        Literal["CONSUME", "REFUND", "TOP_UP", "ADJUSTMENT", "EXPIRE"] | None,
        typer.Option(case_sensitive=False, help="Only of this kind."),
    ] = None,
    status: Annotated[
        Literal["SUCCESS", "DENIED"] | None,
        typer.Option(case_sensitive=False, help="Only of this status."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Only from this time on."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Only before this time."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most transactions to show.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the transactions of a user, newest first. Times: 2026-01-31 or 2026-01-31T12:00Z."""
    with session(context, as_json=as_json) as client:
        transactions = client.list_transactions(
            user_id,
            feature=feature,
            kind=TransactionKind(kind) if kind else None,
            status=TransactionStatus(status) if status else None,
            page_size=min(limit, _MAX_PAGE),
        )
        # Newest first, and no transaction is older than the one before it.
        if until:
            transactions = dropwhile(lambda each: each.create_time >= until, transactions)
        if since:
            transactions = takewhile(lambda each: each.create_time >= since, transactions)
        _show.history(user_id, list(islice(transactions, limit)), as_json=as_json)


@app.command()
def transaction(
    context: typer.Context,
    user_id: User,
    transaction_id: Annotated[str, typer.Argument(metavar="TRANSACTION_ID", help="Its id.")],
    *,
    as_json: Json = False,
) -> None:
    """Show one transaction, with everything that is known of it."""
    with session(context, as_json=as_json) as client:
        _show.details(client.get_transaction(user_id, transaction_id), as_json=as_json)


@app.command()
def features(context: typer.Context, *, as_json: Json = False) -> None:
    """Show the features and their costs."""
    with session(context, as_json=as_json) as client:
        _show.features(client.list_features(), as_json=as_json)
