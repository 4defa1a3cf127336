"""Compiled networks of OpenVINO are kept: found again, never mistaken for others', and believed only when whole."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from PIL import Image

from contract import arrays
from pixrt import Editor
from pixrt.backends.openvino.cache import CompiledNetworks, release
from pixrt.backends.protocol import Array, NewWeight
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import MANIFEST_NAME, Component
from pixrt.bundles.store import BUILT_IN, Bundle, open_bundle
from pixrt.errors import OutputError
from pixrt.options.session import SessionOptions
from shapes import BLUE, QUICK, pixels

HEADER = b'<?xml version="1.0"?><compiled_blob/>\n'
DECODER = Component.VAE_DECODER


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixrt" / "openvino"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One for every network that is compiled: whether OpenVINO was told to keep it."""
    told: list[bool] = []

    class Core(openvino.Core):
        def compile_model(self, model: Any, device: str, settings: Any) -> Any:
            told.append("CACHE_DIR" in settings)
            return super().compile_model(model, device, settings)

    monkeypatch.setattr(openvino, "Core", Core)
    return told


@pytest.fixture(scope="module")
def shapes() -> Bundle:
    return open_bundle("shapes")


def decoded(bundle: Bundle, weights: Sequence[NewWeight] = (), **options: Any) -> tuple[Array, bool]:
    """What the decoder makes of noise, and whether it was taken from the cache."""
    backend = open_backend("openvino", bundle, SessionOptions(threads=1, **options)).backend
    engine: Any = backend.open(bundle, DECODER, weights)
    tensors = arrays(1, 3, 5) | {"sample": np.zeros((1, 3, 12, 20), np.float32)}
    tensors["latent_sample"][:] = np.random.default_rng(0).standard_normal((1, 4, 3, 5))
    engine.bind(tensors)()
    return tensors["sample"], engine._compiled.get_property("LOADED_FROM_CACHE")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def test_it_is_compiled_once_and_computes_the_same(shapes: Bundle, folder: Path, compiled: list[bool]) -> None:
    unverified = open_bundle("shapes", verify=False)  # nothing says what its files hold
    plain, from_cache = decoded(unverified)
    assert (from_cache, compiled, entries(folder)) == (False, [False], [])
    for _ in range(3):
        found, from_cache = decoded(shapes)
        np.testing.assert_array_equal(found, plain)
        assert from_cache
    assert compiled == [False, True]
    (entry,) = entries(folder)
    assert sorted(path.name for path in entry.iterdir()) == ["network.blob", "network.json"]
    assert CompiledNetworks().sizes() == {entry: sum(path.stat().st_size for path in entry.iterdir())}


def test_pictures_are_the_same(scene: Image.Image, compiled: list[bool]) -> None:
    made = []
    for verify in (False, None, None):  # not kept, kept, found
        with Editor("shapes", backend="openvino", threads=2, verify=verify) as editor:
            made.append(pixels(editor.edit(scene, BLUE, **QUICK).image))
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])
    assert (compiled.count(False), compiled.count(True)) == (4, 4)


def truncate(entry: Path) -> None:
    network = entry / "network.blob"
    os.truncate(network, network.stat().st_size // 2)


def flip(entry: Path) -> None:
    """One bit of a weight: OpenVINO would run it."""
    network = entry / "network.blob"
    status = network.stat()
    with network.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x40]))
    os.utime(network, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove(entry: Path) -> None:
    (entry / "network.blob").unlink()


def forget(entry: Path) -> None:
    (entry / "network.json").write_text("{")


def open_to_others(entry: Path) -> None:
    (entry / "network.blob").chmod(0o666)


def seal_anew(entry: Path) -> None:
    """Cut off, as when a disk was full, and its SHA-256 right."""
    truncate(entry)
    data = (entry / "network.blob").read_bytes()
    facts = json.loads((entry / "network.json").read_text())
    facts |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (entry / "network.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("spoil", [truncate, flip, remove, forget, open_to_others, seal_anew])
def test_what_is_broken_is_compiled_again(
    shapes: Bundle, folder: Path, compiled: list[bool], spoil: Callable[[Path], None]
) -> None:
    whole, _ = decoded(shapes)
    (entry,) = entries(folder)
    spoil(entry)
    for _ in range(2):
        found, from_cache = decoded(shapes)
        np.testing.assert_array_equal(found, whole)
        assert from_cache
    assert compiled == [True, True]


class TestAnotherNetworkIsNeverFound:
    def test_a_bundle_that_took_the_place_of_another(self, folder: Path, compiled: list[bool], tmp_path: Path) -> None:
        """At the same path, with the same graph and files of the same sizes and times."""
        place = tmp_path / "bundle"
        shutil.copytree(BUILT_IN / "shapes", place)
        before, _ = decoded(open_bundle(place))
        weights = place / "vae.safetensors"
        status = weights.stat()
        data = bytearray(weights.read_bytes())
        half = np.frombuffer(data, np.float16, offset=len(data) // 2 & ~1)
        half *= np.float16(0.5)
        weights.write_bytes(data)
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        manifest = json.loads((place / MANIFEST_NAME).read_text())
        manifest["files"][weights.name]["sha256"] = hashlib.sha256(data).hexdigest()
        (place / MANIFEST_NAME).write_text(json.dumps(manifest))
        after, _ = decoded(open_bundle(place))
        assert np.abs(after - before).max() > 1e-3
        assert compiled == [True, True]
        assert len(entries(folder)) == 2

    def test_other_weights(self, shapes: Bundle, folder: Path, compiled: list[bool]) -> None:
        """Those of a LoRA are compiled every time, and leave the kept network alone."""
        model = openvino.Core().read_model(shapes.file(DECODER))
        kernel = next(node for node in model.get_ops() if node.get_type_name() == "Constant" and len(node.shape) == 4)
        other = NewWeight(kernel.get_friendly_name(), "vae.safetensors", 0, np.ascontiguousarray(kernel.data * 2))
        plain, _ = decoded(shapes)
        for _ in range(2):
            changed, from_cache = decoded(shapes, [other])
            assert np.abs(changed - plain).max() > 1e-3
            assert not from_cache
        found, from_cache = decoded(shapes)
        np.testing.assert_array_equal(found, plain)
        assert from_cache
        assert len(entries(folder)) == 1
        assert compiled == [True, False, False]

    def test_settings_versions_and_processors(
        self, shapes: Bundle, folder: Path, compiled: list[bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded(shapes)
        open_backend("openvino", shapes, SessionOptions(threads=2)).backend.open(shapes, DECODER)
        assert len(compiled) == 2
        with monkeypatch.context() as patch:
            patch.setattr(openvino, "__version__", "2031.1")
            decoded(shapes)
        assert len(compiled) == 3
        get = openvino.Core.get_property
        with monkeypatch.context() as patch:
            patch.setattr(
                openvino.Core, "get_property", lambda self, d, n: "An abacus" if "FULL" in n else get(self, d, n)
            )
            decoded(shapes)
        assert len(compiled) == 4
        decoded(shapes)
        assert len(compiled) == len(entries(folder)) == 4

    def test_bf16(self, shapes: Bundle, folder: Path) -> None:
        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this processor has no BF16")
        exact, _ = decoded(shapes)
        for _ in range(2):
            rounded, _ = decoded(shapes, cpu_precision="bf16")
            assert np.abs(rounded - exact).max() > 0
        assert len(entries(folder)) == 2


def test_a_folder_that_cannot_be_written(shapes: Bundle, folder: Path) -> None:
    folder.parent.parent.write_text("in the way")
    with pytest.warns(UserWarning, match="compiled networks are not kept, .*: cannot write"):
        _, from_cache = decoded(shapes)
    assert not from_cache


def test_a_library_that_writes_something_else(shapes: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixrt.backends.openvino.cache._HEADER", re.compile(b"nothing of the kind"))
    with pytest.warns(UserWarning, match="are not kept, .*OpenVINO wrote 1 files"):
        _, from_cache = decoded(shapes)
    assert (from_cache, entries(folder)) == (False, [])


def test_two_processes_at_once(shapes: Bundle, folder: Path) -> None:
    script = (
        "from pixrt.backends.registry import open_backend; from pixrt.bundles.store import open_bundle\n"
        "from pixrt.options.session import SessionOptions; bundle = open_bundle('shapes')\n"
        "backend = open_backend('openvino', bundle, SessionOptions(threads=1)).backend\n"
        "print(backend.open(bundle, 'vae_decoder')._compiled.get_property('LOADED_FROM_CACHE'))"
    )
    both = [subprocess.Popen([sys.executable, "-W", "error", "-c", script], stdout=-1, stderr=-1) for _ in range(2)]
    told = [process.communicate() for process in both]
    assert told == [(b"True\n", b"")] * 2
    assert len(entries(folder)) == 1
    assert decoded(shapes)[1]


class TestBounds:
    def keep(self, networks: CompiledNetworks, number: int, size: int, used: int) -> str:
        key = f"{number:064x}"
        with networks.keeping(key) as folder:
            (folder / "1.blob").write_bytes(HEADER + bytes(size))
        if (networks.folder / key).exists():
            os.utime(networks.folder / key, (used, used))
        return key

    def test_the_least_recently_used_goes_first(self, tmp_path: Path) -> None:
        networks = CompiledNetworks(tmp_path / "networks", 3500)
        first, second, third = (self.keep(networks, number, 900, used=1000 + number) for number in range(3))
        found = networks.find(first)
        assert found is not None
        assert found.tobytes() == bytes(900)
        fourth = self.keep(networks, 3, 900, used=5000)
        assert {place.name for place in networks.sizes()} == {first, third, fourth}
        assert networks.find(second) is None
        assert sum(networks.sizes().values()) <= 3500

    def test_one_that_is_too_large_by_itself(self, tmp_path: Path) -> None:
        networks = CompiledNetworks(tmp_path / "networks", 1000)
        assert networks.find(self.keep(networks, 1, 2000, used=1)) is None

    def test_what_is_mapped_outlives_its_removal(self, tmp_path: Path) -> None:
        networks = CompiledNetworks(tmp_path / "networks")
        key = self.keep(networks, 1, 5000, used=1)
        found = networks.find(key)
        networks.drop(key)
        assert found is not None
        assert found.tobytes() == bytes(5000)

    def test_several_files(self, tmp_path: Path) -> None:
        networks = CompiledNetworks(tmp_path / "networks")
        with pytest.raises(OutputError, match="wrote 2 files"), networks.keeping("0" * 64) as folder:  # noqa: PT012
            (folder / "a.blob").write_bytes(HEADER)
            (folder / "b.blob").write_bytes(HEADER)
        assert list(networks.folder.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what of a file is in memory")
def test_what_was_laid_out_anew_is_not_in_memory_twice(shapes: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's pages go after the first run, OpenVINO has written to none, and later runs are the same."""
    decoded(shapes)  # kept
    released: list[Array] = []
    monkeypatch.setattr("pixrt.backends.openvino.backend.release", released.append)
    backend = open_backend("openvino", shapes, SessionOptions(threads=1)).backend
    engine: Any = backend.open(shapes, Component.UNET)  # compiled, and mapped
    tensors = {
        "sample": np.ones((1, 8, 16, 16), np.float32),
        "timestep": np.ones(1, np.float32),
        "encoder_hidden_states": np.ones((1, 77, 128), np.float32),
        "out_sample": np.zeros((1, 4, 16, 16), np.float32),
    }
    call = engine.bind(tensors)
    call()
    first, before = tensors["out_sample"].copy(), in_memory(engine._kept)
    assert before["Private_Dirty"] == 0
    assert len(released) == 1
    assert released[0] is engine._kept
    release(engine._kept)
    after = in_memory(engine._kept)
    assert after["Rss"] < 0.1 * before["Rss"]
    call()
    assert np.array_equal(tensors["out_sample"], first)
    assert len(released) == 1


def in_memory(kept: Array) -> dict[str, int]:
    """What the system says of a mapped array, in KiB."""
    begins = f"{kept.ctypes.data & ~(os.sysconf('SC_PAGE_SIZE') - 1):x}-"
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.startswith(begins):
            facts = (next(lines).split() for _ in range(16))
            return {words[0].rstrip(":"): int(words[1]) for words in facts if words[1].isdigit()}
    raise AssertionError("it is not mapped")
