"""Every configuration that the guides show works: the server starts with it, and its callers get in."""

import json
import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from entitlements import (
    AccessDeniedError,
    CallerRefusedError,
    EntitlementClient,
    ServiceUnavailableError,
    Tls,
)
from entitlements_server.config.callers import new_token
from support.certificates import Authority, ServerFiles
from support.repository import DOCS, ROOT
from support.server_process import ServerProcess

GUIDES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("examples/*/*.md"))]
SHOWN = [
    pytest.param(block, id=f"{guide.name}-{number}")
    for guide in GUIDES
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", guide.read_text(), re.DOTALL))
]
PLACEHOLDER = "1f2a…64 hexadecimal digits…"
SERVER_FOLDERS = ("/etc/entitlements", "/var/lib/entitlements")


def started(block: str, folder: Path, token: str) -> ServerProcess:
    """The server with what a guide shows: with its own files, and on ports that are free."""
    text = block.replace(PLACEHOLDER, sha256(token.encode()).hexdigest())
    for one in SERVER_FOLDERS:
        text = text.replace(one, str(folder))
    file = folder / "shown.toml"
    file.write_text(text)
    if "features" in tomllib.loads(text):
        return ServerProcess("--catalogue", str(file))
    free = ("--metrics-listen", "127.0.0.1:0")
    return ServerProcess("--config", str(file), *free, listen="localhost:0")


@pytest.mark.parametrize("block", SHOWN)
def test_a_server_starts_with_every_file_that_a_guide_shows(block: str, tmp_path: Path) -> None:
    ServerFiles(tmp_path, Authority())
    with started(block, tmp_path, new_token()) as server:
        assert server.is_up
        warnings = [line for line in server.log.splitlines() if "expired" in line]
        assert warnings == []


def server_toml() -> str:
    blocks: list[str] = [str(one.values[0]) for one in SHOWN]
    (found,) = [block for block in blocks if "/etc/entitlements/server.toml" in block]
    return found


def test_both_callers_of_the_guide_get_in_and_nobody_else(tmp_path: Path) -> None:
    """One by its token and one by its certificate, and each may do what its roles say."""
    token = new_token()
    authority = Authority()
    ServerFiles(tmp_path, authority)
    assert PLACEHOLDER in server_toml()

    def certificate(name: str) -> Mapping[str, Any]:
        pair = authority.issue(name, f"spiffe://example.org/{name}")
        return {"client_certificate": pair[0], "client_key": pair[1]}

    def client(token: str | None = None, **pair: Any) -> EntitlementClient:
        tls = Tls(root_certificates=authority.pem, **pair)
        return EntitlementClient(server.address, tls=tls, token=token, deadline_s=10)

    with started(server_toml(), tmp_path, token) as server:
        with client(token, **certificate("web")) as web:
            with pytest.raises(AccessDeniedError):
                web.consume("ada", "full_distribution")
            with pytest.raises(CallerRefusedError, match="'analytics-web' needs the role 'funder'"):
                web.top_up("ada", 2)
        with client(**certificate("billing")) as billing:
            assert billing.top_up("ada", 2).caller == "billing"
        with client(token, **certificate("web")) as web:
            assert web.consume("ada", "full_distribution").caller == "analytics-web"
        with client(**certificate("someone")) as someone, pytest.raises(CallerRefusedError):
            someone.get_account("ada")
        with client(token) as uncertified, pytest.raises(ServiceUnavailableError):
            uncertified.get_account("ada")
        lines = [json.loads(line) for line in server.log.splitlines()]
        assert any(line["event"] == "A call was rejected." for line in lines)
