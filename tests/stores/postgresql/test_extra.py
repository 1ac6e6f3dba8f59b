import subprocess
import sys

WITHOUT_ASYNCPG = """
import asyncio, sys
sys.modules["asyncpg"] = None
from entitlements_server.stores.factory import open_store
asyncio.run(open_store("postgresql://ada:secret@localhost/ledger"))
"""


def test_without_the_package_the_message_says_what_to_install() -> None:
    """The extra is optional: a URL that needs it names the command that mends it."""
    failed = subprocess.run(
        [sys.executable, "-c", WITHOUT_ASYNCPG], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert "pip install 'entitlements[server,postgresql]'" in failed.stderr
    assert "secret" not in failed.stderr.splitlines()[-1]
