"""Training as a user runs it: the command, killed without warning, stopped by Ctrl-C, and on two processes."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import kills
from tiny_training import DATA, LOOP, NETWORKS, PREVIEW

pytestmark = [pytest.mark.torch, pytest.mark.slow]

STEPS = 60
PIXRT = [sys.executable, "-m", "pixrt"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    tables: dict[str, dict[str, Any]] = {f"networks.{name}": table for name, table in NETWORKS.items()}
    tables |= {"data": DATA, "preview": PREVIEW, "training": {**LOOP, "steps": STEPS, "checkpoint_every": 7}}
    lines = (
        [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        for name, table in tables.items()
    )
    path = folder / "tiny.toml"
    path.write_text("\n".join(itertools.chain.from_iterable(lines)))
    return path


def start(config: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [*PIXRT, "train", "edit", "--train-text-encoder", "--config", str(config), "-o", str(output), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(config: Path, output: Path) -> dict[str, bytes]:
    process = start(config, output)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.glob("model/*/*.safetensors")}


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of a run that nothing interrupted."""
    return finish(config, tmp_path_factory.mktemp("whole"))


def test_killed_at_twenty_random_moments(config: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Without warning and politely: while it is imported, between steps, and while a checkpoint is written."""
    rng = random.Random(time.time_ns())
    for number in range(kills.KILLS):
        process = start(config, tmp_path)
        log = tmp_path / "metrics.jsonl"
        before = log.stat().st_size if log.is_file() else 0
        while number % 4 and process.poll() is None and (not log.is_file() or log.stat().st_size <= before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.8) if number % 4 else rng.uniform(0.2, 8))
        process.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
        _, err = process.communicate()
        assert "Traceback" not in err
        assert process.returncode in ((0, 130, -signal.SIGTERM) if number % 2 else (0, -signal.SIGKILL)), err
        assert len(kills.remains(tmp_path)) <= 2  # of this one
    assert finish(config, tmp_path) == whole
    assert not kills.remains(tmp_path)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_a_checkpoint(config: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    process = start(config, tmp_path)
    while not (tmp_path / "metrics.jsonl").is_file():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    step = int(err.rpartition("stopped after step ")[2].split(".")[0])
    assert (tmp_path / "checkpoints" / f"step-{step:08d}").is_dir()
    assert finish(config, tmp_path) == whole


def test_two_processes(config: Path, tmp_path: Path) -> None:
    """Both take their share of every step, one of them writes."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "pixrt"]
    command += [
        "train",
        "edit",
        "--config",
        str(config),
        "-o",
        str(tmp_path),
        "--steps",
        "4",
        "--checkpoint-every",
        "2",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4
