"""`pixrt build`: plans and their entries, knobs, refusals; with a double of the library, and with the real RTX."""

import _thread
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fake_tensorrt import FakeTensorRT
from pixrt.bundles.engine_files import engine_problem, read_engine
from pixrt.bundles.manifest import Manifest, parse_manifest
from pixrt.bundles.store import BUILT_IN, open_bundle
from pixrt.errors import EngineError, OptionError, PackageMissing
from pixrt_engines.builder import _in_thread
from pixrt_engines.gpu import Gpu
from pixrt_engines.library import open_library
from pixrt_engines.progress import PhaseTree
from pixrt_export.output import bundle_folder
from shapes import Run, files
from tiny_bundles import tiny_bundle

pytest.importorskip("onnx")

ADA = Gpu("Some Ada", "sm89")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand(monkeypatch, None)


def at_hand(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None) -> None:
    for module in ("targets", "settings"):
        monkeypatch.setattr(f"pixrt_engines.{module}.present_gpu", lambda: gpu)


def use(monkeypatch: pytest.MonkeyPatch, name: str = "tensorrt_rtx", *version: str, **options: Any) -> FakeTensorRT:
    library = FakeTensorRT(name, *version, **options)
    monkeypatch.setitem(sys.modules, name, library)
    return library


def manifest_in(bundle: Path) -> Manifest:
    return parse_manifest((bundle / "manifest.json").read_text(), "m")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_plans_and_entries(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny", "unet", "vae_encoder")
    outcome = run(
        "build", bundle, "--target", "sm89,sm86", "--size", "64x64", "--batch", "1-2", "--branches", "1,2,3", "--json"
    )
    assert (outcome.code, outcome.err) == (0, "")
    built = lines(outcome.out)
    assert [line["file"].rpartition("-")[0] for line in built] == [
        "engines/unet-4profiles",
        "engines/vae_encoder-64x64",
    ]
    manifest = open_bundle(bundle).manifest
    for line, spec in zip(built, manifest.engines, strict=True):
        assert line["sha256"] == spec.sha256
        assert len(read_engine(bundle, spec, manifest)) == spec.bytes == 1000
        assert (spec.targets, spec.gpu, spec.precision) == (("sm86", "sm89"), "", "fp16")
        assert engine_problem(spec, "tensorrt_rtx", "1.7.1.116", "sm86") is None
    assert set(library.network_flags) == {2}
    assert all(config.flags == {"REQUIRE_USER_ALLOCATION"} for config in library.configs)
    # What all profiles have in common is fixed in the network.
    assert library.networks[0].inputs[0].shape == (-1, 8, 16, 16)
    assert library.networks[1].inputs[0].shape == (1, 3, 64, 64)
    assert library.configs[0].capabilities == {0: "SM86", 1: "SM89"}
    samples = [profile["sample"] for profile in library.configs[0].profiles]
    assert samples[:3] == [((rows, 8, 16, 16),) * 3 for rows in (1, 2, 3)]
    assert samples[3] == ((1, 8, 16, 16), (6, 8, 16, 16), (6, 8, 16, 16))
    listed = manifest.engines[0].profiles
    assert [(each.inputs["sample"].min, each.inputs["sample"].opt, each.inputs["sample"].max) for each in listed] == (
        samples
    )
    assert (bundle / built[0]["file"]).stat().st_mode & 0o022 == 0


def test_what_is_there_is_not_built_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny")
    words = ("build", bundle, "--size", "64x64", "--branches", 3, "--json")
    first, second = (lines(run(*words).out)[0] for _ in range(2))
    assert (first["outcome"], second["outcome"], len(library.configs)) == ("built", "found", 1)
    assert second["sha256"] == first["sha256"]
    rebuilt = lines(run(*words, "--rebuild").out)[0]
    assert rebuilt["sha256"] != first["sha256"]
    assert [engine.sha256 for engine in manifest_in(bundle).engines] == [rebuilt["sha256"]]
    (bundle / rebuilt["file"]).write_bytes(b"altered")
    assert lines(run(*words).out)[0]["outcome"] == "built"
    for knob in (["--optimization-level", 5], ["--target", "sm80"], ["--branches", "2"]):
        assert lines(run(*words, *knob).out)[0]["outcome"] == "built"
    assert len({engine.key for engine in manifest_in(bundle).engines}) == 4
    kept = lines(run(*words, "--prune").out)[0]
    assert kept["outcome"] == "found"
    assert [engine.key for engine in manifest_in(bundle).engines] == [kept["key"]]
    assert [path.name for path in (bundle / "engines").glob("*.plan")] == [kept["file"].rpartition("/")[2]]


def test_external_weights_are_part_of_the_source(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny", external=True)
    assert run("build", bundle, "--size", "64x64", "--branches", 3).code == 0
    manifest = manifest_in(bundle)
    (spec,) = manifest.engines
    assert spec.source_bytes == sum((bundle / name).stat().st_size for name in ("unet.onnx", "unet.onnx_data"))
    value = json.loads(manifest.to_json())
    value["files"]["unet.onnx_data"]["sha256"] = "0" * 64
    with pytest.raises(EngineError, match="other weights"):
        read_engine(bundle, spec, parse_manifest(json.dumps(value), "m"))


def test_a_dry_run_prints_and_writes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny")
    before = files(bundle)
    outcome = run("build", bundle, "--size", "64x64,96x64", "--batch", "1-4", "--dry-run")
    assert outcome.code == 0
    assert "for sm80, sm86, sm89, sm120" in outcome.out
    assert "    sample  min 1x8x16x16, opt 12x8x16x16, max 12x8x16x24" in outcome.out.splitlines()
    assert "    sample  3x8x16x24" in outcome.out.splitlines()
    assert files(bundle) == before


def test_knobs_of_tensorrt(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand(monkeypatch, ADA)
    library = use(monkeypatch, "tensorrt", "10.13.0")
    bundle = tiny_bundle(tmp_path / "tiny")
    knobs = ["--hardware-compatible", "--weight-streaming", "--strip", "--max-aux-streams", 0]
    knobs += ["--workspace-mib", 64, "--optimization-level", 5, "--timing-cache", tmp_path / "cache"]
    words = ["build", bundle, "--library", "tensorrt", "--size", "64x64", "--target", "native"]
    words += knobs
    assert [run(*words, "--branches", branches).code for branches in (3, 2)] == [0, 0]
    first, second = library.configs
    assert first.flags == {"WEIGHT_STREAMING", "STRIP_PLAN", "REFIT_IDENTICAL"}
    assert (first.workspace, first.capabilities) == (64 << 20, {})
    assert vars(first)["builder_optimization_level"] == 5
    assert vars(first)["max_aux_streams"] == 0
    assert vars(first)["hardware_compatibility_level"].name == "AMPERE_PLUS"
    assert second.cache == b"timing;timing;"
    assert files(tmp_path / "cache") == {"tensorrt-10.13.0-Some-Ada-sm89.cache"}
    spec = manifest_in(bundle).engines[0]
    assert (spec.targets, spec.gpu, spec.stripped, spec.version_compatible) == (("sm89",), "", True, False)
    assert run("build", bundle, "--library", "tensorrt", "--size", "64x64", "--version-compatible").code == 0
    assert library.configs[-1].flags == {"VERSION_COMPATIBLE"}
    assert manifest_in(bundle).engines[-1].version_compatible
    assert (spec.workspace_bytes, spec.optimization_level, spec.max_aux_streams) == (64 << 20, 5, 0)


REFUSED: dict[str, tuple[tuple[str, str], Gpu | None, list[object], int, str]] = {
    "timing cache": (("tensorrt_rtx", "1.7"), None, ["--timing-cache", "c"], 2, "timing cache"),
    "version": (("tensorrt_rtx", "1.7"), None, ["--version-compatible"], 2, "version compatibility"),
    "hardware": (("tensorrt_rtx", "1.7"), None, ["--hardware-compatible"], 2, "hardware compatibility"),
    "refit": (("tensorrt_rtx", "1.7"), None, ["--refittable"], 6, "only on a machine with a GPU"),
    "strip": (("tensorrt_rtx", "1.7"), None, ["--strip"], 6, "only on a machine with a GPU"),
    "native": (("tensorrt_rtx", "1.7"), None, ["--target", "native"], 6, "this machine has no GPU"),
    "target": (("tensorrt_rtx", "1.7"), None, ["--target", "sm90"], 2, "builds for sm75, sm80, sm86, sm89, sm120"),
    "no GPU": (("tensorrt", "10.13.0"), None, [], 6, "tunes an engine on the GPU it is for"),
    "other GPU": (("tensorrt", "10.13.0"), ADA, ["--target", "sm80"], 2, "only for the GPU at hand (Some Ada, sm89)"),
    "11.3.0 refit": (("tensorrt", "11.3.0"), ADA, ["--refittable"], 2, "documented to give wrong numbers"),
    "lean runtime": (("tensorrt", "10.13.0"), ADA, ["--version-compatible", "--strip"], 2, "cannot refit one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_knobs(name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, gpu, words, code, message = REFUSED[name]
    at_hand(monkeypatch, gpu)
    use(monkeypatch, *library)
    bundle = tiny_bundle(tmp_path / "tiny")
    outcome = run("build", bundle, "--library", library[0].replace("_", "-"), *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert "engines" not in files(bundle)


def test_11_4_is_refittable(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand(monkeypatch, ADA)
    library = use(monkeypatch, "tensorrt", "11.4.0")
    bundle = tiny_bundle(tmp_path / "tiny")
    assert run("build", bundle, "--library", "tensorrt", "--refittable", "--size", "64x64", "--branches", 3).code == 0
    assert library.configs[0].flags == {"REFIT"}
    (spec,) = manifest_in(bundle).engines
    assert (spec.gpu, spec.targets, spec.refittable) == ("Some Ada", ("sm89",), True)


@pytest.mark.parametrize("precision", ["fp16-weights", "int8", "int8-weights"])
def test_a_bundle_for_cpus_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny")
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"precision": "fp16"', f'"precision": "{precision}"'))
    outcome = run("build", bundle)
    assert (outcome.code, "--precision fp16" in outcome.err, precision in outcome.err) == (2, True, True)


def test_what_the_library_says_is_passed_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, says="no tactics to implement the operation within workspace limit.")
    bundle = tiny_bundle(tmp_path / "tiny")
    outcome = run("build", bundle, "--workspace-mib", 1)
    assert outcome.code == 6
    assert "cannot build the unet: no tactics" in outcome.err
    assert "Raise --workspace" in outcome.err
    assert manifest_in(bundle).engines == ()


def test_unsupported_nodes_by_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = tuple((f"/block/{index}", "Strange", "no plugin") for index in range(7))
    use(monkeypatch, unsupported=nodes)
    bundle = tiny_bundle(tmp_path / "tiny")
    outcome = run("build", bundle)
    assert outcome.code == 6
    assert "/block/0 (Strange): no plugin" in outcome.err
    assert "and 2 more" in outcome.err
    outcome = run("build", bundle, "--check")
    assert outcome.code == 6
    assert [line.strip() for line in outcome.out.splitlines()] == [
        "unet: 7 unsupported",
        *(f"{node} (Strange): no plugin" for node, _, _ in nodes),
    ]


def test_attentions_in_fp32_are_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, softmaxes=("half", "float", "half", "float", "half"))
    words = ("build", tiny_bundle(tmp_path / "tiny"), "--size", "64x64")
    assert "2 of 5 attentions are kept in FP32" in run(*words).out
    assert lines(run(*words, "--rebuild", "--json").out)[0]["attentions"] == {"all": 5, "in_fp32": 2}
    assert lines(run(*words, "--json").out)[0]["attentions"] is None  # it was there already
    use(monkeypatch, softmaxes=("half",) * 5)
    assert "attentions" not in run(*words, "--rebuild").out


def test_no_room_is_told_before_the_build(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 3 << 20}))
    outcome = run("build", bundle, "--size", "64x64", "--branches", 3)
    assert (outcome.code, library.configs) == (7, [])
    assert "take about 24 MiB" in outcome.err
    assert "3 MiB free" in outcome.err


def test_missing_and_empty_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt", type(sys)("tensorrt"))  # as type stubs leave it
    with pytest.raises(PackageMissing, match=r"pixrt\[tensorrt-rtx\]"):
        open_library("auto")
    with pytest.raises(PackageMissing, match=r"pixrt\[tensorrt\]"):
        open_library("tensorrt")
    with pytest.raises(OptionError, match="'cuda'"):
        open_library("cuda")  # type: ignore[arg-type]
    use(monkeypatch, "tensorrt", "10.13.0")
    assert open_library("auto").name == "tensorrt"


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, seconds=2, on_start=_thread.interrupt_main)
    bundle = tiny_bundle(tmp_path / "tiny")
    outcome = run("build", bundle)
    assert (outcome.code, "cancelled" in outcome.err) == (130, True)
    assert not [name for name in files(bundle / "engines") if not name.endswith(".lock")]
    assert manifest_in(bundle).engines == ()


def test_an_interrupt_before_the_thread_runs_touches_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[bool] = []
    late: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        late.append(thread)
        raise KeyboardInterrupt

    def work() -> memoryview:
        worked.append(True)
        return memoryview(b"")

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _in_thread(work, threading.Event())
    monkeypatch.undo()
    late[0].start()
    late[0].join()
    assert not worked


def test_leftovers_of_killed_builds_are_removed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny")
    (bundle / "engines").mkdir(mode=0o775)
    (bundle / "engines" / ".unet-512x512-3rows-0123.tmp").write_bytes(b"half")
    (bundle / ".pixrt-0123.tmp").write_bytes(b"half")
    assert run("build", bundle, "--branches", 3).code == 0
    assert not list(bundle.rglob("*.tmp"))
    assert (bundle / "engines").stat().st_mode & 0o022 == 0


def test_a_bundle_with_engines_may_be_overwritten(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixrt.errors import OutputError

    use(monkeypatch)
    bundle = tiny_bundle(tmp_path / "tiny")
    assert run("build", bundle, "--branches", 3).code == 0
    (bundle / "engines" / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match=r"engines/thesis\.txt"), bundle_folder(bundle, overwrite=True):
        raise AssertionError
    (bundle / "engines" / "thesis.txt").unlink()
    with bundle_folder(bundle, overwrite=True) as folder:
        (folder / "manifest.json").write_text((bundle / "manifest.json").read_text())
    assert files(bundle) == {"manifest.json"}


def test_phases_become_one_rising_fraction() -> None:
    tree = PhaseTree()
    tree.start("whole", None, 2)
    tree.start("first", "whole", 4)
    seen = [tree.step("first", 0), tree.step("first", 1)]
    tree.finish("first")  # early, as after a failure
    seen.append(tree.step("whole", 0))
    tree.start("second", "whole", 2)
    tree.start("inner", "second", 2)
    seen.append(tree.step("inner", 0))
    tree.finish("inner")
    seen.append(tree.step("second", 0))
    seen += [tree.step("second", 1), tree.step("whole", 1)]
    assert seen == [0.125, 0.25, 0.5, 0.625, 0.75, 1.0, 1.0]


def test_a_machine_without_a_driver_has_no_gpu() -> None:
    code = "import ctypes; ctypes.CDLL = lambda name: (_ for _ in ()).throw(OSError(name))\n"
    code += "from pixrt_engines.gpu import present_gpu; print(present_gpu())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "None"


def build_really(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A process of its own: the real library must not share one with a simulated driver."""
    command = [sys.executable, "-c", "from pixrt.cli import main; main()", "build", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ)


def test_a_real_engine_of_rtx(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle = tiny_bundle(tmp_path / "tiny")
    words = (bundle, "--target", "sm80,sm89", "--size", "64x64", "--branches", "2,3", "--batch", "1-2", "--json")
    outcome = build_really(tmp_path, *words)
    assert outcome.returncode == 0, outcome.stderr
    manifest = manifest_in(bundle)
    (engine,) = manifest.engines
    assert [profile.is_static for profile in engine.profiles] == [True, True, False]
    assert (engine.library, engine.targets, engine.bytes > 100_000) == ("tensorrt_rtx", ("sm80", "sm89"), True)
    assert len(read_engine(bundle, engine, manifest)) == engine.bytes
    # The second time nothing is built, and the strange nodes of another bundle are all named.
    again = build_really(tmp_path, *words)
    assert [line["outcome"] for line in lines(again.stdout)] == ["found"]
    strange = tiny_bundle(tmp_path / "strange", unsupported=True)
    checked = build_really(tmp_path, strange, "--check", "--json")
    assert checked.returncode == 6
    (line,) = lines(checked.stdout)
    assert {"/block/Strange", "/block/Stranger"} <= {node["node"] for node in line["unsupported"]}


def test_an_edit_builds_what_it_lacks(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU to edit on: the edit fails after the build, and it is said why."""
    at_hand(monkeypatch, ADA)
    library = use(monkeypatch, "tensorrt", "10.13.0")
    bundle = tmp_path / "shapes"
    shutil.copytree(BUILT_IN / "shapes", bundle)
    words = ["edit", "scene.png", "make it darker", "-b", bundle, "-o", "out.png", "--build-engines"]
    outcome = run(*words)
    assert outcome.code == 2
    assert "--backend tensorrt or tensorrt-rtx" in outcome.err
    outcome = run(*words, "--backend", "tensorrt", "--image-guidance-scale", 1)
    assert outcome.code == 6
    assert "engines/unet-64x64-2rows" in outcome.err
    names = [engine.file.rpartition("-")[0] for engine in manifest_in(bundle).engines]
    assert sorted(names) == [
        "engines/text_encoder-static",
        "engines/unet-64x64-2rows",
        "engines/vae_decoder-64x64",
        "engines/vae_encoder-64x64",
    ]
    plan = next(bundle.glob("engines/unet-*.plan"))
    plan.write_bytes(plan.read_bytes()[:-1])
    assert run(*words, "--backend", "tensorrt", "--image-guidance-scale", 1).code == 6
    assert len(library.configs) == 4 + 1  # the plan that was cut is built again
    assert not (tmp_path / "out.png").exists()
