"""The Compose file: as the specification wants it, with settings and images that there are, and few rights."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployed import DEPLOY, ROOT, errors_of, schema, seconds_to_end
from figures.process import Served, stand_in
from pixrt.serve.settings import PREFIX, Settings, read_settings

FILE = DEPLOY / "compose.yaml"


def with_defaults(text: str) -> str:
    """The file as it is read where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


DOCUMENT = yaml.safe_load(with_defaults(FILE.read_text()))
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]


def settings_of(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in service["environment"].items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    return read_settings({})


def test_it_is_of_the_specification() -> None:
    assert errors_of(DOCUMENT, schema("compose-spec.json")) == []
    wrong = {"services": {"cpu": {"image": "pixrt", "stop_grace": "1s"}}}
    assert errors_of(wrong, schema("compose-spec.json")) != []


@pytest.mark.skipif(
    not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="there is no docker compose",
)
@pytest.mark.parametrize("profile", SERVICES)
def test_docker_understands_it(profile: str) -> None:
    command = ["docker", "compose", "-f", str(FILE), "--profile", profile, "config", "--quiet"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_its_settings_are_known_and_let_it_finish(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[name]
    settings = settings_of(service, monkeypatch)
    assert settings.notes == ()
    assert service["profiles"] == [name]
    assert float(service["stop_grace_period"].removesuffix("s")) > seconds_to_end(settings.options)
    assert str(settings.options.keys_file) == f"/run/secrets/{service['secrets'][0]}"
    assert service["secrets"][0] in DOCUMENT["secrets"]
    (port,) = service["ports"]
    assert port == f"127.0.0.1:{settings.options.port}:{settings.options.port}"


@pytest.mark.parametrize("name", SERVICES)
def test_it_may_little_and_writes_where_it_may(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    written = [mount["target"] for mount in service["volumes"] if not mount.get("read_only")]
    written += [mount.partition(":")[0] for mount in service["tmpfs"]]
    variables = service["environment"]
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "PYTHONPYCACHEPREFIX"):
        assert variables[variable].startswith(tuple(written)), variable


@pytest.mark.parametrize("name", SERVICES)
def test_its_image_is_one_of_the_dockerfiles(name: str) -> None:
    build, service = SERVICES[name]["build"], SERVICES[name]
    text = (FILE.parent / build["context"] / build["dockerfile"]).read_text()
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    assert set(build.get("args", {})) <= set(defaults)
    extras = (defaults | build.get("args", {})).get("EXTRA", defaults.get("EXTRAS", "")).split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "serve" in extras
    assert set(extras) <= set(known)
    assert f"USER {service['user']}" in text
    (made,) = re.findall(r"^RUN install -d -m 1777 (.*)", text, re.MULTILINE)
    assert {mount["target"] for mount in service["volumes"]} == set(made.split())


def test_the_health_check_tells_ready_from_not() -> None:
    kind, program, flag, code = SERVICES["cpu"]["healthcheck"]["test"]
    assert (kind, program, flag) == ("CMD", "python", "-c")

    def health(address: str) -> int:
        words = code.replace("http://127.0.0.1:8765", address)
        return subprocess.run([sys.executable, flag, words], capture_output=True).returncode

    with Served(*stand_in(1)) as server:
        assert health(server.address) == 0
        stopped = server.address
    assert health(stopped) != 0


def test_keys_and_bundles_beside_it_are_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    (bundles,) = {mount["source"] for service in SERVICES.values() for mount in service["volumes"][:1]}
    for place in (DOCUMENT["secrets"]["keys"]["file"], bundles):
        relative = (Path("/deploy") / place).as_posix()
        assert relative in ignored or f"{relative}/" in ignored
