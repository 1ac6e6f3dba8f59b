"""Real PostgreSQL servers and pgbouncers on free ports of loopback, started by the tests alone."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from support.network import Network
from support.programs import tool
from support.redis import free_port

START_SECONDS = 60
OWNER = "owner"
"""A superuser."""

DATABASE = "ledger"

_USER = "postgres"
"""Debian's package makes this account."""

_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "log_min_messages": "warning",
    "unix_socket_directories": "",
}


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, which Debian keeps out of the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which(name, path=os.pathsep.join([*map(str, folders), "/usr/sbin"]))
    return found or tool(name)


def unprivileged() -> list[str]:
    """What to put before a command that refuses to run as root.

    Not `user` of subprocess: that forks, and gRPC in this process does not survive a fork.
    """
    if os.geteuid():
        return []
    return [tool("setpriv"), f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]


def folder_of_its_own(prefix: str) -> Path:
    """An empty folder that belongs to whom the server runs as."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if os.geteuid() == 0:
        shutil.chown(folder, _USER, _USER)
    return folder


class PostgresqlServer:
    """A PostgreSQL server that can be killed and started again on its data.

    Args:
        network: A network of its own to run in.
        primary: What it is to be a standby of, if it is one.
        port: Where it listens; by default on a free port.
        settings: As in postgresql.conf.
    """

    def __init__(
        self,
        *,
        network: Network | None = None,
        primary: "PostgresqlServer | None" = None,
        port: int = 0,
        **settings: str,
    ) -> None:
        self.host = network.host if network else "127.0.0.1"
        postgres = program("postgres")
        within = network.within if network else ()
        self._command = (*within, *unprivileged(), postgres)
        self.folder = folder_of_its_own("postgresql-")
        self.data = self.folder / "data"
        self.settings = {**_SETTINGS, **settings}
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        try:
            if primary is not None:
                self._run(
                    *("pg_basebackup", "-d", primary.url_of(OWNER, "postgres"), "-R", "--no-sync"),
                    *("-c", "fast", "-D", str(self.data)),
                )
                self.start()
                return
            self._run(
                *("initdb", "-D", str(self.data), "-U", OWNER, "--no-sync"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C"),
            )
            with (self.data / "pg_hba.conf").open("a") as access:
                access.write("host all all 198.18.0.0/15 trust\n")
            self.start()
            self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return self.url_of(OWNER)

    def url_of(self, user: str, database: str = DATABASE) -> str:
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            self._launch()
            while self.process is not None and self.process.poll() is None:
                if self._answers():
                    return
                assert time.monotonic() < end, self.log()
                time.sleep(0.02)
            # The backends of one that was killed take a moment to notice.
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def restart(self, **settings: str) -> None:
        """Stop it as an operator would, and start it with other settings."""
        self.stop()
        self.settings |= settings
        self.start()

    def stop(self) -> None:
        """SIGINT: PostgreSQL's fast shutdown."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def kill(self) -> None:
        """SIGKILL of the postmaster; its backends notice, and end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def crash(self) -> None:
        """SIGKILL of the postmaster and of every backend at the same moment."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        for pid in (self.process.pid, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def sql(self, statement: str, *, user: str = OWNER, database: str = DATABASE) -> list[str]:
        """Execute statements. Returns the rows, columns separated by `|`."""
        done = subprocess.run(
            [
                *(program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"),
                *("-d", self.url_of(user, database), "-f", "-"),
            ],
            input=statement,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SqlError(done.stderr)
        return done.stdout.splitlines()

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [*unprivileged(), program(name), *words],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr + done.stdout

    def _launch(self) -> None:
        options = [
            word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")
        ]
        options += ["-c", f"listen_addresses={self.host}", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "-D", str(self.data), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
            )

    def _answers(self) -> bool:
        ready = [program("pg_isready"), "-q", "-h", self.host, "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


class PostgresqlPair:
    """A PostgreSQL server and a standby of it, which can take its place as often as one likes.

    Args:
        synchronous: Whether a commit waits for the standby.
    """

    def __init__(self, *, synchronous: bool = True) -> None:
        self._synchronous = synchronous
        with contextlib.ExitStack() as stack:
            self.primary = stack.enter_context(PostgresqlServer())
            self.standby = stack.enter_context(PostgresqlServer(primary=self.primary))
            self._join()
            stack.pop_all()
        ports = (self.primary.port, self.standby.port)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.url = f"postgresql://{OWNER}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def fail_over(self, lag_s: float = 0) -> None:
        """Crash the primary, promote the standby, and make a new standby at the old address.

        Args:
            lag_s: For how long the standby has received nothing by then, in seconds.
        """
        dead, self.primary = self.primary, self.standby
        if lag_s:
            self._cut_off(self.primary)
            time.sleep(lag_s)
        dead.crash()
        self.primary.sql("SELECT pg_promote(true, 60)", database="postgres")
        dead.close()
        self.standby = PostgresqlServer(primary=self.primary, port=dead.port)
        self._join()

    def close(self) -> None:
        self.standby.close()
        self.primary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _cut_off(self, standby: PostgresqlServer) -> None:
        """Have a standby receive nothing more."""
        standby.sql("ALTER SYSTEM SET primary_conninfo = ''", database="postgres")
        standby.sql("SELECT pg_reload_conf()", database="postgres")
        receiving = "SELECT FROM pg_stat_activity WHERE backend_type = 'walreceiver'"
        end = time.monotonic() + START_SECONDS
        while standby.sql(f"SELECT 1 WHERE EXISTS ({receiving})", database="postgres"):
            assert time.monotonic() < end, standby.log()
            time.sleep(0.02)

    def _join(self) -> None:
        """Wait until the standby has everything, and from now on everything first."""
        names = "*" if self._synchronous else ""
        self.primary.sql(
            f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", database="postgres"
        )
        self.primary.sql("SELECT pg_reload_conf()", database="postgres")
        state = "sync" if self._synchronous else "async"
        (written,) = self.primary.sql("SELECT pg_current_wal_lsn()", database="postgres")
        there = (
            "SELECT FROM pg_stat_replication WHERE state = 'streaming'"
            f" AND sync_state = '{state}' AND flush_lsn >= '{written}'"
        )
        end = time.monotonic() + START_SECONDS
        while not self.primary.sql(f"SELECT 1 WHERE EXISTS ({there})", database="postgres"):
            assert time.monotonic() < end, self.standby.log()
            time.sleep(0.02)


class SqlError(Exception):
    """A statement of a test was refused."""


class Pgbouncer:
    """A pgbouncer in front of a PostgreSQL server.

    Args:
        server: The server.
        mode: Its pool_mode.
        size: The connections to the server that all its clients share.
    """

    def __init__(
        self, server: PostgresqlServer, *, mode: str = "transaction", size: int = 3
    ) -> None:
        self.port = free_port()
        bouncer = program("pgbouncer")
        self.folder = folder_of_its_own("pgbouncer-")
        settings: Mapping[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            "default_pool_size": size,
            "max_client_conn": 200,
            "server_login_retry": 1,
        }
        lines = [
            "[databases]",
            f"{DATABASE} = host={server.host} port={server.port} dbname={DATABASE} user={OWNER}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        file = self.folder / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n")
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*unprivileged(), bouncer, "-q", str(file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self.process.poll() is not None or time.monotonic() > end:
                problem = (self.folder / "log").read_text()
                self.close()
                raise AssertionError(problem)
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{DATABASE}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def empty(server: PostgresqlServer) -> None:
    """Drop the ledger."""
    server.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS entitlements CASCADE")


async def waiting_for_a_lock(server: PostgresqlServer, count: int = 1) -> list[str]:
    """Wait until so many statements wait for a lock. Returns their processes."""
    for _ in range(3000):
        pids = server.sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = 'ledger' AND wait_event_type = 'Lock'"
        )
        if len(pids) >= count:
            return pids
        await asyncio.sleep(0.01)
    raise AssertionError


@contextlib.contextmanager
def pooled(server: PostgresqlServer) -> Iterator[Pgbouncer]:
    """Run a pgbouncer in front of a server while the block runs."""
    with Pgbouncer(server) as bouncer:
        yield bouncer
