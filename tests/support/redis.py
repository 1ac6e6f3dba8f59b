"""Real Redis servers on free ports of loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import redis

from support.network import Network
from support.programs import tool

START_SECONDS = 30
"""How long a server may take to answer, before the test gives up."""

_LEDGER = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "repl_diskless_sync_delay": "0",
}
_SLOTS = 16384


def wait_until(condition: Callable[[], Any], seconds: float = START_SECONDS) -> None:
    """Return when the condition holds; a redis error or a refused connection is a no."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < end, "It does not come true."
        time.sleep(0.01)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class RedisServer:
    """A `redis-server` that can be killed and started again on its data.

    By default it promises what a ledger wants: everything is synced before it is answered.

    Args:
        environment: Variables of the process, besides those of this one.
        network: A network of its own to run in.
        config: As in redis.conf, with underscores.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        network: Network | None = None,
        **config: str,
    ) -> None:
        self._command = (*(network.within if network else ()), tool("redis-server"))
        self.host = network.host if network else "127.0.0.1"
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.port = int(config.get("tls_port", 0)) or free_port()
        self.config = _LEDGER | config
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def client(self, **options: Any) -> "redis.Redis":
        return redis.Redis(self.host, self.port, protocol=2, **options)

    def start(self) -> None:
        options = [
            word
            for name, value in self.config.items()
            for word in (f"--{name.replace('_', '-')}", *(value.split() if value else [""]))
        ]
        if "tls_port" not in self.config:
            options += ["--port", str(self.port)]
        options += ["--dir", str(self.folder), "--bind", self.host, "--protected-mode", "no"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        wait_until(self._answers)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: it answers nothing, and keeps its connections."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wait_for_replica(self) -> None:
        """Wait until a replica has all that was written."""

        def confirmed() -> bool:
            with self.client() as client:
                client.set("written", "", px=1)
                return bool(client.execute_command("WAIT", 1, 1000) == 1)

        wait_until(confirmed)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text())
        with socket.create_connection((self.host, self.port), 1):
            if self.config.keys() & {"tls_port", "requirepass", "aclfile", "user"}:
                return True
        with self.client() as client:
            return bool(client.ping())


class RedisClusterServers:
    """A Redis Cluster of real servers, three masters by default."""

    def __init__(self, masters: int = 3, replicas: int = 0, *, node_timeout_ms: int = 2000) -> None:
        self.nodes: list[RedisServer] = []
        self._node_timeout_ms = node_timeout_ms
        try:
            self._start(masters, replicas)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def _start(self, masters: int, replicas: int) -> None:
        for _ in range(masters * (1 + replicas)):
            self.nodes.append(
                RedisServer(
                    cluster_enabled="yes",
                    cluster_port=str(free_port()),
                    cluster_node_timeout=str(self._node_timeout_ms),
                )
            )
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < masters:
                    first, last = (_SLOTS * n // masters for n in (number, number + 1))
                    client.execute_command("CLUSTER ADDSLOTSRANGE", first, last - 1)
                for other in self.nodes[:number]:
                    client.execute_command(
                        "CLUSTER MEET", "127.0.0.1", other.port, other.config["cluster_port"]
                    )
        wait_until(lambda: all(self._known(node) == len(self.nodes) for node in self.nodes))
        for number, node in enumerate(self.nodes[masters:]):
            with self.nodes[number % masters].client() as master, node.client() as client:
                client.execute_command("CLUSTER REPLICATE", master.execute_command("CLUSTER MYID"))
        wait_until(lambda: all(self._ready(node) for node in self.nodes))

    def _known(self, node: RedisServer) -> int:
        with node.client() as client:
            return int(client.cluster("INFO")["cluster_known_nodes"])

    def _ready(self, node: RedisServer) -> bool:
        with node.client() as client:
            in_step = client.info("replication").get("master_link_status", "up") == "up"
            return bool(in_step and client.cluster("INFO")["cluster_state"] == "ok")

    def fail_over(self, choose: Callable[[list[RedisServer]], RedisServer]) -> float:
        """Kill a master, wait until a replica has taken over, and start it again as a replica.

        Returns the seconds from the kill until the cluster had all its slots again.
        """
        masters = [node for node in self.nodes if self._role(node) == "master"]
        victim = choose(masters)
        others = [node for node in self.nodes if node is not victim]
        victim.kill()
        begin = time.monotonic()
        wait_until(
            lambda: (
                sum(self._role(node) == "master" for node in others) == len(masters)
                and all(self._ready(node) for node in others if self._role(node) == "master")
            )
        )
        seconds = time.monotonic() - begin
        victim.start()
        wait_until(lambda: all(self._ready(node) for node in self.nodes))
        return seconds

    def _role(self, node: RedisServer) -> str:
        with node.client() as client:
            return str(client.info("replication")["role"])

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def flush(servers: RedisServer | RedisClusterServers) -> None:
    """Empty the servers."""
    nodes = servers.nodes if isinstance(servers, RedisClusterServers) else [servers]
    for node in nodes:
        with node.client() as client:
            client.flushall()


@contextlib.contextmanager
def started(kind: str) -> Iterator[RedisServer | RedisClusterServers]:
    """Run `redis` or `cluster` while the block runs."""
    with RedisServer() if kind == "redis" else RedisClusterServers() as servers:
        yield servers
