"""A PostgreSQL cluster of the bench's own: made, served on loopback, and removed."""

import asyncio
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_READY_SECONDS = 30
SETTINGS = Path(__file__).with_suffix(".conf")
"""The settings of every cluster."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that serves.

    Attributes:
        url: Of its database, with a password that is as old as the cluster.
        process: The process that is the parent of all others of it.
    """

    url: str
    process: psutil.Process


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL here, or None."""
    folders = [one.parent for one in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: float(folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@asynccontextmanager
async def cluster(programs: Path) -> AsyncIterator[Cluster]:
    """Run a fresh cluster while the block runs, and remove it afterwards.

    Root runs it as the user `postgres`, or else `nobody`, for PostgreSQL refuses to be root.
    """
    owner = _owner()
    with tempfile.TemporaryDirectory() as folder:
        data, password = Path(folder) / "data", secrets.token_urlsafe(16)
        _make(programs, data, password, owner)
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            *(str(programs / "postgres"), "-D", str(data), f"--port={port}"),
            cwd=data,
            stderr=subprocess.DEVNULL,
            **owner,
        )
        try:
            await _ready(programs, port)
            url = f"postgresql://bench:{password}@127.0.0.1:{port}/postgres"
            yield Cluster(url, psutil.Process(process.pid))
        finally:
            if process.returncode is None:
                process.send_signal(2)  # SIGINT: stop now, and leave clients without an answer
            await process.wait()


def _owner() -> dict[str, Any]:
    """Return what makes a process somebody else's, where we are root."""
    if os.geteuid():
        return {}
    known = {one.pw_name: one for one in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _make(programs: Path, data: Path, password: str, owner: dict[str, Any]) -> None:
    data.parent.chmod(0o711)
    data.mkdir(mode=0o700)
    secret = data.with_name("password")
    secret.touch(mode=0o600)
    secret.write_text(password)
    if owner:
        for path in (data, secret):
            os.chown(path, owner["user"], owner["group"])
    made = subprocess.run(
        [
            str(programs / "initdb"), "-D", str(data), "--username=bench", "--encoding=UTF8",
            "--locale=C", "--auth=scram-sha-256", f"--pwfile={secret}",
        ],
        cwd=data,
        capture_output=True,
        text=True,
        check=False,
        **owner,
    )  # fmt: skip
    secret.unlink()
    if made.returncode:
        raise SystemExit(f"No PostgreSQL cluster could be made: {made.stderr.strip()}")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS.read_text("utf-8"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _ready(programs: Path, port: int) -> None:
    ask = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    for _ in range(_READY_SECONDS * 10):
        asked = await asyncio.create_subprocess_exec(*ask)
        if await asked.wait() == 0:
            return
        await asyncio.sleep(0.1)
    raise SystemExit("The PostgreSQL cluster does not become ready.")
