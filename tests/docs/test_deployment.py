"""The files to deploy from: what can be said of them without running them where they belong."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from support.programs import command, tool
from support.repository import DOCS
from support.server_process import ServerProcess, run

OPERATIONS = DOCS / "operations"
UNIT = OPERATIONS / "entitlements-server.service"
KUBERNETES = OPERATIONS / "kubernetes.yaml"
COMPOSE = OPERATIONS / "compose" / "compose.yaml"

pytestmark = pytest.mark.slow


def linted(name: str, *words: str | Path) -> None:
    """Run a linter of the group `release`; without it the test skips, and in CI it fails."""
    beside = Path(sys.executable).with_name(name)
    program = str(beside) if beside.exists() else tool(name)
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def documents(file: Path) -> list[Any]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("`make dist` installs PyYAML, with the linters")
    return list(yaml.safe_load_all(file.read_text("utf-8")))


def test_the_unit_is_valid(tmp_path: Path) -> None:
    """With the program where it is here."""
    unit = tmp_path / UNIT.name
    there = "/opt/entitlements/bin/entitlements-server"
    unit.write_text(UNIT.read_text("utf-8").replace(there, command("entitlements-server")))
    linted("systemd-analyze", "verify", unit)


def test_the_unit_leaves_little_exposed() -> None:
    """On systemd's scale of 0 to 10: at most 1.5. What is left is that it serves on a network."""
    linted("systemd-analyze", "security", "--offline=true", "--threshold=15", UNIT)


def test_the_dockerfile_has_no_findings() -> None:
    """Of hadolint."""
    linted("hadolint", OPERATIONS / "Dockerfile")


def test_the_dockerfile_copies_what_is_there() -> None:
    """From the root of the repository."""
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (OPERATIONS / "Dockerfile").read_text(), re.MULTILINE
    )
    names = [name for line in copied for name in line.split()]
    assert len(names) >= 6
    assert all((DOCS.parent / name).exists() for name in names)


def test_the_compose_file_is_one() -> None:
    """By the schema of the Compose specification."""
    linted("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_server_of_the_compose_file_takes_its_options() -> None:
    """And finds its ledger in the environment."""
    server = documents(COMPOSE)[0]["services"]["server"]
    _, *options = server["command"]
    shown = run("config", *options, **server["environment"])
    assert shown.returncode == 0, shown.stderr
    assert 'store = "redis://redis:6379/0"  # environment' in shown.stdout
    assert 'listen = "0.0.0.0:50051"  # flag' in shown.stdout


def test_what_the_compose_file_mounts_is_there() -> None:
    """The alerts and the dashboard are those of the docs, and the job has the name they ask for."""
    for service in documents(COMPOSE)[0]["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists(), source
    jobs = documents(COMPOSE.parent / "prometheus.yaml")[0]["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["entitlements"]
    assert 'job="entitlements"' in (OPERATIONS / "alerts.yaml").read_text("utf-8")


def test_the_manifests_fit_the_schemas_of_kubernetes() -> None:
    """Strictly: a field that does not exist is an error."""
    linted("kubernetes-validate", "--strict", KUBERNETES)


def test_the_server_answers_what_the_probes_of_the_manifests_ask() -> None:
    """Each with 200, while it serves."""
    deployment = next(one for one in documents(KUBERNETES) if one["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    probes = [probe for name, probe in container.items() if name.endswith("Probe")]
    assert len(probes) == 3
    with ServerProcess("--metrics-listen", "127.0.0.1:0") as server:
        metrics = server.metrics_url.removesuffix("/metrics")
        for probe in probes:
            assert probe["httpGet"]["port"] == "metrics"
            with urlopen(metrics + probe["httpGet"]["path"], timeout=30) as answer:
                assert answer.status == 200


def test_the_server_takes_the_configuration_of_the_manifests(tmp_path: Path) -> None:
    """With the store from the secret, and nothing that is only found out in the cluster."""
    found = {one["kind"]: one for one in documents(KUBERNETES)}
    file = tmp_path / "server.toml"
    file.write_text(found["ConfigMap"]["data"]["server.toml"])
    shown = run("config", "--config", str(file), ENTITLEMENTS_STORE="rediss://redis/0")
    assert shown.returncode == 0, shown.stderr
    pod = found["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in re.findall(r'"(/etc/\S+?)"', shown.stdout):
        assert str(Path(path).parent) in mounts
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f'listen = "0.0.0.0:{ports["grpc"]}"' in shown.stdout
    assert f'metrics_listen = "0.0.0.0:{ports["metrics"]}"' in shown.stdout
    drain_s = float(re.findall(r"^drain_seconds = (\S+)", shown.stdout, re.MULTILINE)[0])
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > drain_s + pause_s
