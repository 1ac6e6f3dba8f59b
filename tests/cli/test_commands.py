"""The commands of `entitlements-server`: what is printed when one cannot do what it is asked for."""

import socket
from pathlib import Path

import pytest

from support.server_process import run


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("serve", "--max-queued", "0"), "--max-queued"),
        (("serve", "--config", "{folder}/callers.toml"), "caller number 1"),
        (("serve", "--catalogue", "{folder}/none.toml"), "none.toml cannot be read"),
        (("serve", "--store", "mysql://db"), "mysql://db"),
        (("serve", "--listen", "{taken}"), "--listen"),
        (("serve", "--listen", "127.0.0.1:0", "--metrics-listen", "{taken}"), "--metrics-listen"),
        (("serve", "--tls-key", "key.pem"), "--tls-certificate"),
        (
            ("serve", "--tls-key", "{folder}/none.pem", "--tls-certificate", "{folder}/none.pem"),
            "none.pem cannot be read",
        ),
        (("backup", "--store", "memory://", "copy.sqlite"), "no SQLite file"),
        (("export", "--format", "xml", "trail"), "--format"),
        (("export", "--since", "soon", "trail"), "--since"),
        (("verify", "--store", "sqlite://{folder}/none.sqlite"), "none.sqlite"),
        (("copy", "--from", "mysql://db", "--to", "memory://"), "mysql://db"),
    ],
)
def test_whatever_stops_a_command_is_one_sentence_and_exit_status_1(
    tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "callers.toml").write_text('[[callers]]\nname = "web"\n')
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = f"127.0.0.1:{listening.getsockname()[1]}"
        stopped = run(*(word.format(folder=tmp_path, taken=taken) for word in words))
    # Where it got as far as logging, the sentence is the last line.
    sentence = stopped.stderr.splitlines()[-1]
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert problem in sentence
    assert sentence.endswith(".")
    assert "Traceback" not in stopped.stderr
