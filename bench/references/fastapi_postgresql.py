# asyncpg ships no types, and only who measures has it.
# mypy: disable-error-code="import-not-found, import-untyped"
"""What a careful team writes instead of us: FastAPI, one PostgreSQL statement a charge, a pool of asyncpg.

The environment says which database (`DATABASE_URL`), how many connections (`POOL`), and how many users
get tokens at the start (`USERS`). A charge is one durable transaction, idempotent by a unique key.
"""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

COSTS = {"full_distribution": 2, "scenario_extremes": 3, "comparative_analysis": 3}
SCHEMA = """
CREATE TABLE accounts (
    user_id text PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);
CREATE TABLE charges (
    charge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL,
    idempotency_key text NOT NULL,
    feature text NOT NULL,
    event_id text NOT NULL,
    cost bigint NOT NULL,
    balance_after bigint NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, idempotency_key)
);
"""
FUND = """
INSERT INTO accounts
SELECT 'user-' || lpad(number::text, 5, '0'), 1000000000 FROM generate_series(0, $1::int - 1) AS number
"""
CHARGE = """
WITH paid AS (
    UPDATE accounts SET balance = balance - $2 WHERE user_id = $1 AND balance >= $2 RETURNING balance
)
INSERT INTO charges (user_id, cost, idempotency_key, feature, event_id, balance_after)
SELECT $1, $2, $3, $4, $5, balance FROM paid
RETURNING charge_id, balance_after
"""
MADE = """
SELECT charge_id, balance_after, feature FROM charges WHERE user_id = $1 AND idempotency_key = $2
"""


class Charge(BaseModel):
    """A charge that is asked for."""

    user_id: Annotated[str, Field(min_length=1, max_length=128)]
    feature: str
    event_id: str = ""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)]


def _answer(status: int, **body: Any) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


def make_app(address: str) -> FastAPI:
    """Make the service; it says where it listens once its pool is there."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        size = int(os.environ["POOL"])
        async with asyncpg.create_pool(
            os.environ["DATABASE_URL"], min_size=size, max_size=size
        ) as pool:
            app.state.pool = pool
            await pool.execute(SCHEMA)
            await pool.execute(FUND, int(os.environ["USERS"]))
            print(f"Listening on {address}", flush=True)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/charges")
    async def charge(asked: Charge) -> Response:
        """Charge, once for each key; a retry gets the charge that was made."""
        cost = COSTS.get(asked.feature)
        if cost is None:
            return _answer(404, error="There is no such feature.")
        async with app.state.pool.acquire() as connection:
            try:
                made = await connection.fetchrow(
                    CHARGE,
                    asked.user_id,
                    cost,
                    asked.idempotency_key,
                    asked.feature,
                    asked.event_id,
                )
            except asyncpg.UniqueViolationError:
                made = None
            replayed = made is None
            if made is None:
                made = await connection.fetchrow(MADE, asked.user_id, asked.idempotency_key)
                if made is None:
                    return _answer(402, error="There are not enough tokens.")
                if made["feature"] != asked.feature:
                    return _answer(409, error="The key is bound to another charge.")
        return _answer(
            200,
            charge_id=made["charge_id"],
            balance_after=made["balance_after"],
            replayed=replayed,
        )

    return app


def serve() -> None:
    """Serve on a free port of loopback, with one worker, until the process is ended."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        app = make_app(f"127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            app, loop="uvloop", http="httptools", log_level="warning", access_log=False
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve()
