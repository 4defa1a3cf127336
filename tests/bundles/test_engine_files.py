"""A plan is code: every way of tampering with one is found before a byte is deserialised, and told apart."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pixrt.bundles.engine_files import engine_problem, read_engine, source_digest, source_files
from pixrt.bundles.engine_spec import EngineSpec, ShapeProfile, SizeRange
from pixrt.bundles.manifest import FileSpec, Manifest, parse_manifest
from pixrt.bundles.store import BUILT_IN
from pixrt.errors import EngineError

FIRST, SECOND = b"first plan " * 9, b"second plan, longer " * 9


@dataclass
class Case:
    """A bundle's folder with two engines, the first of which is read."""

    folder: Path
    manifest: Manifest

    @property
    def spec(self) -> EngineSpec:
        return self.manifest.engines[0]

    @property
    def plan(self) -> Path:
        return self.folder / self.spec.file

    def change(self, **fields: object) -> None:
        engines = (replace(self.spec, **fields), *self.manifest.engines[1:])  # type: ignore[arg-type]
        self.manifest = replace(self.manifest, engines=engines)


def engine(file: str, plan: bytes, manifest: Manifest) -> EngineSpec:
    sizes = {"sample": SizeRange((1, 8, 8, 8), (1, 8, 8, 8), (2, 8, 8, 8))}
    unet = manifest.components["unet"]
    return EngineSpec(
        component="unet",
        file=file,
        library="tensorrt_rtx",
        library_version="1.7.1.116",
        targets=("sm86", "sm89"),
        gpu="",
        precision="fp16",
        profiles=(ShapeProfile(sizes),),
        inputs=unet.inputs,
        outputs=unet.outputs,
        bytes=len(plan),
        sha256=hashlib.sha256(plan).hexdigest(),
        source_sha256=source_digest(manifest, "unet"),
        source_bytes=1,
        key="k",
        refittable=False,
        stripped=False,
        version_compatible=False,
        hardware_compatible=False,
        weight_streaming=False,
        workspace_bytes=None,
        optimization_level=3,
        max_aux_streams=None,
    )


@pytest.fixture
def case(tmp_path: Path) -> Case:
    manifest = parse_manifest((BUILT_IN / "shapes" / "manifest.json").read_text(), "m")
    (tmp_path / "engines").mkdir(mode=0o755)
    engines = []
    for name, plan in (("one", FIRST), ("two", SECOND)):
        path = tmp_path / "engines" / f"{name}.plan"
        path.write_bytes(plan)
        path.chmod(0o644)
        engines.append(engine(f"engines/{name}.plan", plan, manifest))
    manifest = replace(manifest, engines=tuple(engines))
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    (tmp_path / "manifest.json").chmod(0o644)
    return Case(tmp_path, manifest)


def test_a_whole_plan_is_read_and_its_entry_survives_the_manifest(case: Case) -> None:
    again = parse_manifest((case.folder / "manifest.json").read_text(), "m")
    assert again == case.manifest
    assert read_engine(case.folder, again.engines[0], again) == FIRST
    assert again.engines[0].holds({"sample": (2, 8, 8, 8)})
    assert not again.engines[0].holds({"sample": (3, 8, 8, 8)})


def test_a_manifest_without_engines_stays_valid() -> None:
    value = json.loads((BUILT_IN / "shapes" / "manifest.json").read_text())
    value.pop("engines", None)
    assert parse_manifest(json.dumps(value), "m").engines == ()


def test_the_fused_step_has_the_weights_of_the_unet(case: Case) -> None:
    unet = case.manifest.components["unet"]
    step = replace(unet, file="unet_step.onnx")
    listed = {name: FileSpec(1, digit * 64) for name, digit in (("unet_step.onnx", "1"), ("unet.onnx_data", "2"))}
    manifest = replace(case.manifest, components={"unet": unet, "unet_step": step}, files=case.manifest.files | listed)
    assert source_files(manifest, "unet_step") == ("unet_step.onnx", "unet.safetensors", "unet.onnx_data")
    for name in ("unet.onnx_data", "unet.safetensors"):
        changed = replace(manifest, files=manifest.files | {name: FileSpec(1, "3" * 64)})
        for component in ("unet", "unet_step"):
            assert source_digest(manifest, component) != source_digest(changed, component)


def flip(case: Case) -> None:
    case.plan.write_bytes(bytes([FIRST[0] ^ 1]) + FIRST[1:])


def swap(case: Case) -> None:
    other = case.folder / "engines" / "two.plan"
    case.plan.write_bytes(SECOND)
    other.write_bytes(FIRST)


def link(case: Case) -> None:
    real = case.plan.rename(case.folder / "real.plan")
    case.plan.symlink_to(real)


def link_folder(case: Case) -> None:
    real = (case.folder / "engines").rename(case.folder / "elsewhere")
    (case.folder / "engines").symlink_to(real)


def pipe(case: Case) -> None:
    case.plan.unlink()
    os.mkfifo(case.plan, 0o600)


def folder(case: Case) -> None:
    case.plan.unlink()
    case.plan.mkdir(mode=0o755)


def other_weights(case: Case) -> None:
    changed = {"unet.onnx": FileSpec(1, "0" * 64)}
    case.manifest = replace(case.manifest, files=case.manifest.files | changed)


def no_component(case: Case) -> None:
    case.manifest = replace(case.manifest, components={})


TAMPERING: dict[str, tuple[Callable[[Case], object], str]] = {
    "flipped byte": (flip, "is altered: SHA-256"),
    "truncated": (lambda case: case.plan.write_bytes(FIRST[:-1]), f"is truncated: {len(FIRST) - 1} bytes"),
    "empty": (lambda case: case.plan.write_bytes(b""), "is truncated: 0 bytes"),
    "appended": (lambda case: case.plan.write_bytes(FIRST + b"x"), f"longer than it was built: {len(FIRST) + 1}"),
    "swapped": (swap, "holds the plan of engines/two.plan: the files were swapped"),
    "removed": (lambda case: case.plan.unlink(), "is missing, and the manifest lists it"),
    "linked": (link, "one.plan is a symbolic link"),
    "linked folder": (link_folder, "engines is a symbolic link"),
    "pipe": (pipe, "is not a regular file"),
    "folder": (folder, "is not a regular file"),
    "path upwards": (lambda case: case.change(file="engines/../../one.plan"), "leaves the folder engines"),
    "absolute path": (lambda case: case.change(file="/etc/one.plan"), "leaves the folder engines"),
    "group may write": (lambda case: case.plan.chmod(0o664), "can be written by others (mode 664)"),
    "all may write": (lambda case: case.plan.chmod(0o646), "can be written by others (mode 646)"),
    "manifest open": (lambda case: (case.folder / "manifest.json").chmod(0o666), "manifest.json can be written by"),
    "folder open": (lambda case: (case.folder / "engines").chmod(0o777), "engines can be written by others"),
    "other weights": (other_weights, "was built from other weights than the unet that the bundle has now"),
    "no component": (no_component, "has no component unet"),
    "lost digit": (lambda case: case.change(sha256=case.spec.sha256[:-1]), "is altered"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering(name: str, case: Case) -> None:
    tamper, words = TAMPERING[name]
    tamper(case)
    with pytest.raises(EngineError) as caught:
        read_engine(case.folder, case.spec, case.manifest)
    assert words in caught.value.problem
    assert "pixrt build" in caught.value.remedy


def test_another_owner(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(case.plan, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(EngineError, match="neither to you"):
        read_engine(case.folder, case.spec, case.manifest)


def test_the_bytes_that_were_hashed_are_returned(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is exchanged between the check and the use has no effect: there is one reading of it."""
    opened: list[object] = []
    original = os.open

    def counting(path: object, *rest: int) -> int:
        opened.append(path)
        return original(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", counting)
    plan = read_engine(case.folder, case.spec, case.manifest)
    case.plan.write_bytes(SECOND)
    assert (plan, opened) == (FIRST, [case.plan])


PROBLEMS: dict[str, tuple[dict[str, object], tuple[str, str, str], str | None]] = {
    "fits": ({}, ("tensorrt_rtx", "1.7.1.116", "sm89"), None),
    "rtx patch": ({}, ("tensorrt_rtx", "1.7.9", "sm86"), None),
    "rtx minor": ({}, ("tensorrt_rtx", "1.8.1", "sm86"), "same major and minor"),
    "other library": ({}, ("tensorrt", "1.7.1.116", "sm89"), "an engine of tensorrt_rtx, and tensorrt is in use"),
    "other capability": ({}, ("tensorrt_rtx", "1.7.1.116", "sm120"), "is for sm86, sm89; the GPU here is sm120"),
    "exact": ({"library": "tensorrt", "library_version": "10.13.0"}, ("tensorrt", "10.13.0", "sm89"), None),
    "inexact": ({"library": "tensorrt", "library_version": "10.13.0"}, ("tensorrt", "10.13.1", "sm89"), "very version"),
    "later": (
        {"library": "tensorrt", "library_version": "10.13.0", "version_compatible": True},
        ("tensorrt", "10.14.1", "sm89"),
        None,
    ),
    "earlier": (
        {"library": "tensorrt", "library_version": "10.13.0", "version_compatible": True},
        ("tensorrt", "10.12.9", "sm89"),
        "that version or a later one",
    ),
    "next major": (
        {"library": "tensorrt", "library_version": "10.13.0", "version_compatible": True},
        ("tensorrt", "11.0.0", "sm89"),
        "of the same major",
    ),
    "wide": ({"hardware_compatible": True}, ("tensorrt_rtx", "1.7.1.116", "sm120"), None),
    "before Ampere": ({"hardware_compatible": True}, ("tensorrt_rtx", "1.7.1.116", "sm75"), "sm80 and later"),
    "tied": ({"gpu": "Some GPU"}, ("tensorrt_rtx", "1.7.1.116", "sm80"), "built on Some GPU"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_suitability(name: str, case: Case) -> None:
    changes, (library, version, capability), words = PROBLEMS[name]
    case.change(**changes)
    problem = engine_problem(case.spec, library, version, capability)  # type: ignore[arg-type]
    assert (problem is None) == (words is None)
    assert (words or "") in (problem or "")


def test_a_static_profile_is_taken_before_another_that_takes_the_same_shape(case: Case) -> None:
    least, other, most = ((rows, 8, 8, 8) for rows in (1, 2, 4))
    dynamic = ShapeProfile({"sample": SizeRange(least, least, most)})
    static = [ShapeProfile({"sample": SizeRange(shape, shape, shape)}) for shape in (least, other)]
    spec = replace(case.spec, profiles=(dynamic, *static))
    found = [spec.profile_for({"sample": (rows, 8, 8, 8)}) for rows in range(1, 6)]
    assert found == [1, 2, 0, 0, None]
    assert spec.covers(dynamic)
    assert not replace(spec, profiles=tuple(static)).covers(dynamic)  # its least and its most are two profiles'
