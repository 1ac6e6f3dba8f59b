"""A network of its own for a server, whose cable can be pulled."""

import os
import subprocess
from typing import Self

from support.programs import tool


class Network:
    """A network namespace with one cable to this machine. It takes the rights of root.

    Attributes:
        host: The address of whatever runs inside.
        within: What to put before a command, so that it runs inside.
    """

    def __init__(self) -> None:
        self._ip = tool("ip")
        number = os.getpid() % 16384
        self._name = f"entitlements-{os.getpid()}"
        self._outside, self._inside = f"ent{number}o", f"ent{number}i"
        # 198.18.0.0/15 is for tests of networks: RFC 2544.
        third, fourth = divmod(number * 4, 256)
        self._outer, self.host = (f"198.18.{third}.{fourth + place}" for place in (1, 2))
        self.within = (self._ip, "netns", "exec", self._name)
        try:
            self._run("netns", "add", self._name)
            self._run(
                *("link", "add", self._outside, "type", "veth"),
                *("peer", "name", self._inside, "netns", self._name),
            )
            self._run("addr", "add", f"{self._outer}/30", "dev", self._outside)
            self._run("link", "set", self._outside, "up")
            self._run("-n", self._name, "addr", "add", f"{self.host}/30", "dev", self._inside)
            self._run("-n", self._name, "link", "set", "lo", "up")
            self.mend()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def is_allowed() -> bool:
        """Whether this process may make networks."""
        unshare = ["unshare", "--net", "true"]
        return subprocess.run(unshare, check=False, capture_output=True).returncode == 0

    def cut(self) -> None:
        """Pull the cable: packets vanish in silence, and connections stay as they are."""
        self._run("-n", self._name, "link", "set", self._inside, "down")

    def cut_answers(self) -> None:
        """Let packets in, and let what is answered vanish: it goes to a machine that is not there."""
        self._run(
            *("-n", self._name, "neigh", "replace", self._outer, "dev", self._inside),
            *("lladdr", "02:00:00:00:00:01", "nud", "permanent"),
        )

    def mend(self) -> None:
        """Put the cable back in, and let answers out."""
        self._run("-n", self._name, "link", "set", self._inside, "up")
        self._run("-n", self._name, "neigh", "flush", "dev", self._inside, "nud", "permanent")

    def close(self) -> None:
        subprocess.run([self._ip, "netns", "del", self._name], check=False, capture_output=True)
        subprocess.run([self._ip, "link", "del", self._outside], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, *words: str) -> None:
        done = subprocess.run([self._ip, *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
