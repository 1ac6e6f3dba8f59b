"""The command line `entitlements` in this process: the same code, without the start of an interpreter."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from entitlements.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]


def runner(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that runs the program against a service."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name in os.environ:
                if name.startswith("ENTITLEMENTS_"):
                    patch.delenv(name)
            for name, value in ({"ENTITLEMENTS_ADDRESS": address} | env).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["entitlements", *words])
            with pytest.raises(SystemExit) as done:
                main()
        printed = capsys.readouterr()
        status = done.value.code or 0
        assert isinstance(status, int)
        return subprocess.CompletedProcess(words, status, printed.out, printed.err)

    return run
