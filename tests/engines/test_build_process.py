"""Builds as processes: killed, interrupted, many at once, on a full and a read-only disk; and of a whole model.

A plan is whole or absent. Slow together; `make test` runs them after the rest.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fake_tensorrt
import kills
from exported import Exports
from kept import writable_copy
from pixrt.bundles.engine_files import engine_problem, read_engine
from pixrt.bundles.manifest import Component, Manifest
from pixrt.bundles.store import open_bundle
from shapes import Run, files
from tiny_bundles import tiny_bundle

pytestmark = pytest.mark.slow
pytest.importorskip("onnx")

ONE = ("--size", "64x64", "--branches", "3", "--batch", "1")  # profile
REAL = "from pixrt.cli import main; main()"


def fake(**options: object) -> str:
    """The command line with a double of the library, for what does not depend on the real one."""
    made = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"from fake_tensorrt import FakeTensorRT; FakeTensorRT({made}).install(); {REAL}"


def start(code: str, bundle: Path, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, "build", str(bundle), *map(str, words)]
    path = os.pathsep.join([str(Path(fake_tensorrt.__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=3600)
    return process.returncode, out.decode(), err.decode()


def require_whole(bundle: Path) -> Manifest:
    """The bundle opens, every listed plan is the one that was built, and no other is listed."""
    manifest = open_bundle(bundle).manifest
    for spec in manifest.engines:
        read_engine(bundle, spec, manifest)
    return manifest


def remains(bundle: Path) -> list[str]:
    """What a build left besides plans: no half of anything."""
    names = [path.name for path in bundle.rglob("*") if path.is_file()]
    return [name for name in names if name.endswith(".tmp")]


def wait_for_build(process: subprocess.Popen[bytes], bundle: Path) -> None:
    """Until the lock of a plan is there: the library works from then on."""
    while process.poll() is None and not list(bundle.glob("engines/.unet-*.lock")):
        time.sleep(0.02)


@pytest.mark.parametrize("code", [REAL, fake(seconds=1.0, plan_bytes=8 << 20)], ids=["rtx", "double"])
def test_twenty_kills(code: str, tmp_path: Path) -> None:
    if code == REAL:
        pytest.importorskip("tensorrt_rtx")
    bundle = tiny_bundle(tmp_path / "tiny")
    words = (*ONE, "--target", "sm89", "--rebuild")
    started = time.perf_counter()
    process = start(code, bundle, *words)
    wait_for_build(process, bundle)
    before = time.perf_counter() - started
    assert finish(process)[0] == 0
    whole = time.perf_counter() - started
    dice = random.Random(7)
    for number in range(kills.KILLS):
        process = start(code, bundle, *words)
        time.sleep(dice.uniform(0.8 * before, 1.1 * whole))
        process.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
        _, err = process.communicate()
        assert b"Traceback" not in err
        assert process.returncode in (0, 130, -signal.SIGTERM) if number % 2 else (0, -signal.SIGKILL)
        assert len(require_whole(bundle).engines) <= 1
    assert finish(start(code, bundle, *words))[0] == 0
    assert len(require_whole(bundle).engines) == 1
    assert not remains(bundle)


def test_eight_processes_build_once(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    code = fake(seconds=8.0)
    processes = [start(code, bundle, *ONE, "--json") for _ in range(8)]
    outcomes = [finish(process) for process in processes]
    assert [code for code, _, _ in outcomes] == [0] * 8, outcomes
    results = [json.loads(out) for _, out, _ in outcomes]
    assert sorted(result["outcome"] for result in results) == ["built"] + ["found"] * 7
    assert len({result["sha256"] for result in results}) == 1
    assert any("waiting for its result" in err for _, _, err in outcomes)
    assert len(require_whole(bundle).engines) == 1


def test_entries_of_parallel_builds_are_all_kept(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", "unet", "vae_encoder")
    sizes = ["64x64", "96x64", "64x96", "96x96"]
    processes = [
        start(fake(), bundle, "--component", component, "--size", size, "--branches", "3")
        for size in sizes
        for component in ("unet", "vae_encoder")
    ]
    assert [finish(process)[0] for process in processes] == [0] * 8
    assert len(require_whole(bundle).engines) == 8


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_a_real_build(kind: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle = tiny_bundle(tmp_path / "tiny")
    process = start(REAL, bundle, "--branches", "1,2,3", "--target", "sm89")
    wait_for_build(process, bundle)
    process.send_signal(kind)
    code, _, err = finish(process)
    assert code == 130
    assert "cancelled" in err
    assert "Traceback" not in err
    assert not remains(bundle)
    assert len(require_whole(bundle).engines) < 3


@contextmanager
def mounted(folder: Path, size_mib: int) -> Iterator[None]:
    """A file system of its own; skips where this user may not mount one."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_gets_full(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 20):
        bundle = tiny_bundle(tmp_path / "disk" / "tiny")
        before = (bundle / "manifest.json").read_bytes()
        code, _, err = finish(start(fake(plan_bytes=30 << 20), bundle, *ONE))
        assert code == 7
        assert "No space left" in err
        assert "free space" in err
        assert not remains(bundle)
        assert not list(bundle.rglob("*.plan"))
        assert (bundle / "manifest.json").read_bytes() == before
        assert finish(start(fake(plan_bytes=1 << 20), bundle, *ONE))[0] == 0
        assert len(require_whole(bundle).engines) == 1
        (bundle / "ballast").write_bytes(bytes(14 << 20))
        code, _, err = finish(start(fake(), bundle, "--size", "96x96", "--branches", "1"))
        assert code == 7
        assert "MiB free" in err


def test_a_read_only_bundle(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with mounted(tmp_path / "disk", 20):
            bundle = tiny_bundle(tmp_path / "disk" / "tiny")
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
            code, _, err = finish(start(fake(), bundle))
    else:
        bundle = tiny_bundle(tmp_path / "tiny")
        bundle.chmod(0o500)
        code, _, err = finish(start(fake(), bundle))
    assert code == 7
    assert "cannot write" in err
    assert "engines" in err


@pytest.mark.torch
def test_the_built_in_model_for_several_targets(run: Run, exports: Exports, tmp_path: Path) -> None:
    """Every component of the FP16 export becomes a real engine, and its entry says what it is."""
    pytest.importorskip("tensorrt_rtx")
    bundle = writable_copy(exports.bundle("shapes", "fp16"), tmp_path / "bundle")
    manifest = open_bundle(bundle).manifest
    every = [word for component in manifest.components for word in ("--component", component)]
    outcome = run("build", bundle, "--target", "sm86,sm89", "--size", "64x64", "--branches", "3", "--json", *every)
    assert outcome.code == 0, outcome.err
    manifest = open_bundle(bundle).manifest
    assert len(manifest.engines) == len(outcome.out.splitlines()) == 6
    assert (
        {engine.component for engine in manifest.engines}
        == set(Component) - {Component.UNET_SHALLOW}
        == manifest.components.keys()
    )
    for engine in manifest.engines:
        component = manifest.components[engine.component]
        assert len(read_engine(bundle, engine, manifest)) == engine.bytes > 1 << 20
        assert (engine.inputs, engine.outputs) == (component.inputs, component.outputs)
        assert (engine.library, engine.targets) == ("tensorrt_rtx", ("sm86", "sm89"))
        assert engine.precision == ("fp32" if engine.component == "vae_decoder_fp32" else "fp16")
        assert engine.profiles[0].inputs.keys() == {tensor.name for tensor in component.inputs}
        assert engine_problem(engine, "tensorrt_rtx", engine.library_version, "sm89") is None
    plans = {name for name in files(bundle / "engines") if name.endswith(".plan")}
    assert plans == {engine.file.rpartition("/")[2] for engine in manifest.engines}
