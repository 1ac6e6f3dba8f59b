"""The guide shows what works: its Python runs, top to bottom, and its tree is the real one."""

import re

import entitlements._errors
from support.repository import DOCS
from support.server_process import ServerProcess

GUIDE = DOCS / "client.md"


def test_the_python_of_the_guide_runs_from_top_to_bottom() -> None:
    """In one namespace against a fresh service; the last block is an app that answers."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    with ServerProcess() as server:
        for block in blocks:
            exec(block.replace("127.0.0.1:50051", server.address), names)
        client = names["client"]
        assert isinstance(client, entitlements.EntitlementClient)
        assert [each.amount for each in client.list_transactions("ada")] == [-2, -2, 20]
        client.close()


def test_the_tree_of_errors_is_that_of_the_module() -> None:
    """Line by line."""
    drawn = re.search(r"```\n(EntitlementError\n.*?)```", GUIDE.read_text(), re.DOTALL)
    assert drawn is not None
    tree = (entitlements._errors.__doc__ or "").split("\n\n")[1]
    assert drawn[1].splitlines() == [line.removeprefix("    ") for line in tree.splitlines()]
