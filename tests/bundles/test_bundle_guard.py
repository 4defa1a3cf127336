"""What was checked is what is loaded, and nothing else: links, other files, files that change, remembered hashes."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.backends.ort.backend import OrtBackend
from pixrt.bundles import hashes, store
from pixrt.bundles.graphs import files_named
from pixrt.bundles.hashes import FileIdentity, remember, remembered
from pixrt.bundles.manifest import NETWORKS, Component
from pixrt.bundles.store import BUILT_IN, Bundle, open_bundle
from pixrt.errors import BundleAltered, BundleError
from pixrt.reading import Malformed

SHAPES = BUILT_IN / "shapes"
FILES = len(list(SHAPES.iterdir())) - 1  # beside the manifest


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def entry(key: bytes, value: bytes) -> bytes:
    return field(13, field(1, key) + field(2, value))


def model(*tensors: bytes, nodes: bytes = b"") -> bytes:
    """A graph with these initializers."""
    return b"\x08\x08" + field(7, nodes + b"".join(field(5, tensor) for tensor in tensors))


def named(data: bytes) -> frozenset[str]:
    return files_named(BytesIO(data), len(data))


TENSOR = b"\x08\x02" + field(8, b"w") + entry(b"location", b"evil.bin")


class TestGraphs:
    def test_the_built_in_graphs(self) -> None:
        for component in NETWORKS:
            path = SHAPES / f"{component}.onnx"
            with path.open("rb") as file:
                found = files_named(file, path.stat().st_size)
            assert found == {f"{'vae' if component.startswith('vae') else component}.safetensors"}

    @pytest.mark.parametrize(
        "data",
        [
            model(TENSOR),
            model(b"\x08\x02", TENSOR + field(9, bytes(3 << 20))),
            model(nodes=field(1, field(5, field(5, TENSOR)))),  # a constant's
            model(nodes=field(1, field(5, field(10, TENSOR)))),
            model(nodes=field(1, field(5, field(6, field(5, TENSOR))))),  # in the graph of a branch
            model(nodes=field(1, field(5, field(11, field(5, TENSOR))))),
            model(nodes=field(1, field(5, field(22, field(1, TENSOR))))),  # sparse
            model(nodes=field(15, field(2, TENSOR))),
            field(7, b"") + field(7, field(5, TENSOR)),  # parts of one message may stand apart
            field(20, field(1, field(5, TENSOR))),  # training
            field(25, field(7, field(5, field(5, TENSOR)))),  # functions
            model(field(13, field(1, b"offset") + field(1, b"location") + field(2, b"evil.bin"))),  # the last counts
            model(entry(b"location", b"x") + entry(b"location", b"evil.bin")),
        ],
    )
    def test_a_file_is_found_wherever_it_is_named(self, data: bytes) -> None:
        assert "evil.bin" in named(data)

    def test_onnx_finds_the_same(self, tmp_path: Path) -> None:
        onnx = pytest.importorskip("onnx")
        external = pytest.importorskip("onnx.external_data_helper")
        loaded = onnx.load(str(SHAPES / "unet.onnx"), load_external_data=False)
        theirs = {
            item.value
            for tensor in external._get_all_tensors(loaded)
            for item in tensor.external_data
            if item.key == "location"
        }
        assert named((SHAPES / "unet.onnx").read_bytes()) == theirs

    @pytest.mark.parametrize(
        "data",
        [
            b"\x0b\x0c",  # a group
            b"\x3a\xff\xff\xff\x7f",  # longer than the file
            b"\x3a\x05abc",
            b"\x80" * 20,
            b"\xff\xff\xff\xff\xff\x01\x00",  # a tag of more than 32 bits
            b"\x00\x00",
            b"\x08",
            b"\x08\x08ORTM rest",
            model(nodes=field(1, field(4, b"EPContext"))),
        ],
    )
    def test_what_is_no_graph_or_compiled_code(self, data: bytes) -> None:
        with pytest.raises(Malformed):
            named(data)

    @settings(max_examples=300)
    @given(st.data())
    def test_a_mutated_graph_is_walked_or_refused(self, data: st.DataObject) -> None:
        given = bytearray((SHAPES / "unet.onnx").read_bytes()[:20_000])
        for at in data.draw(st.lists(st.integers(0, len(given) - 1), max_size=8)):
            given[at] = data.draw(st.integers(0, 255))
        with suppress(Malformed):
            named(bytes(given))

    def test_graphs_in_graphs_end(self) -> None:
        data = field(5, TENSOR)
        for _ in range(500):
            data = field(1, field(5, field(6, data)))
        with pytest.raises(Malformed, match="nested"):
            named(field(7, data))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shutil.copytree(SHAPES, tmp_path / "copy")
    return tmp_path / "copy"


def _list(folder: Path, *names: str) -> None:
    """Have the manifest list files as they are now."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    for name in names:
        data = (folder / name).read_bytes()
        value["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(value))


def _links(folder: Path) -> None:
    (folder / "unet.safetensors").rename(folder.parent / "elsewhere")
    (folder / "unet.safetensors").symlink_to("../elsewhere")


def _links_inside(folder: Path) -> None:
    (folder / "vocab.json").rename(folder / "real")
    (folder / "vocab.json").symlink_to("real")


def _links_hard(folder: Path) -> None:
    os.link(folder / "unet.safetensors", folder.parent / "second")


def _pipes(folder: Path) -> None:
    (folder / "unet.safetensors").unlink()
    os.mkfifo(folder / "unet.safetensors")


def _names(location: bytes) -> Callable[[Path], None]:
    """A graph that names another file, as long as its own, and is listed as it is."""

    def change(folder: Path) -> None:
        data = (folder / "unet.onnx").read_bytes()
        (folder / "unet.onnx").write_bytes(data.replace(b"unet.safetensors", location))
        (folder / "evil.onnx_data").write_bytes(b"x")
        _list(folder, "unet.onnx")

    return change


def _links_folder(folder: Path) -> None:
    (folder.parent / "outside").mkdir()
    (folder / "vocab.json").rename(folder.parent / "outside" / "vocab.json")
    (folder / "in").symlink_to("../outside")
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"vocab.json"', '"in/vocab.json"'))


@pytest.mark.parametrize("verify", [None, False])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_links, "symbolic link"),
        (_links_inside, "symbolic link"),
        (_links_folder, "symbolic link"),
        (_links_hard, "2 names"),
        (_pipes, "a pipe"),
        (lambda folder: ((folder / "vocab.json").unlink(), (folder / "vocab.json").mkdir()), "a folder"),
        (_names(b"evil.onnx_data  "), "evil.onnx_data"),
        (_names(b"../evil.onnx_dat"), "evil"),
        (_names(b"/etc/passwords12"), "/etc/passwords12"),
        (_names(b"manifest.json\0\0\0"), "manifest.json"),
        (_names(b"*/_ORT_MEM_ADDR_"), "_ORT_MEM_ADDR_"),
    ],
)
def test_what_is_refused_before_a_library_sees_it(
    bundle: Path, change: Callable[[Path], object], words: str, verify: bool | None
) -> None:
    change(bundle)
    with pytest.raises(BundleError) as caught, open_bundle(bundle, verify=verify).loading(Component.UNET):
        pytest.fail("it is given to a library")
    assert words in str(caught.value)


def test_a_backend_refuses_by_itself(bundle: Path) -> None:
    """Also for a bundle that was not opened by `open_bundle`."""
    plain = Bundle(bundle, open_bundle("shapes", verify=False).manifest)
    OrtBackend("ort-cpu", "CPUExecutionProvider", 1).open(plain, Component.UNET)
    _names(b"/etc/passwords12")(bundle)
    with pytest.raises(BundleError, match="/etc/passwords12"):
        OrtBackend("ort-cpu", "CPUExecutionProvider", 1).open(plain, Component.UNET)


def _same_again(path: Path) -> None:
    """Another file of the same content, size and time of change."""
    status = path.stat()
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _in_place(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        file.write(b"other weights")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [_same_again, _in_place])
@pytest.mark.parametrize("name", ["unet.onnx", "unet.safetensors"])
def test_a_file_that_changed_since_it_was_checked_is_not_loaded(
    bundle: Path, change: Callable[[Path], None], name: str
) -> None:
    opened = open_bundle(bundle)
    change(bundle / name)
    with pytest.raises(BundleAltered, match="has changed since it was checked"):
        OrtBackend("ort-cpu", "CPUExecutionProvider", 1).open(opened, Component.UNET)


def test_a_file_that_changes_while_it_is_loaded(bundle: Path) -> None:
    opened = open_bundle(bundle)
    with pytest.raises(BundleAltered, match="has changed"), opened.loading(Component.UNET) as path:
        shutil.copy(path, path.with_name("x")).replace(path)


def test_a_file_that_changes_while_it_is_hashed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = store.sha256_file

    def sha256_file(path: Path) -> str:
        digest = original(path)
        if path.name == "unet.safetensors":
            _in_place(path)
        return digest

    monkeypatch.setattr(store, "sha256_file", sha256_file)
    with pytest.raises(BundleAltered, match="has changed"):
        open_bundle(bundle)


class TestRemembering:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(hashes, "_place", lambda: tmp_path / "cache" / "hashes.json")
        monkeypatch.setattr(hashes, "_TICK_NS", 0)
        return tmp_path / "cache" / "hashes.json"

    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of files as they are hashed."""
        seen: list[str] = []
        original = store.sha256_file

        def sha256_file(path: Path) -> str:
            seen.append(path.name)
            return original(path)

        monkeypatch.setattr(store, "sha256_file", sha256_file)
        return seen

    def test_a_second_time_nothing_is_hashed(self, bundle: Path, cache: Path, hashed: list[str]) -> None:
        first = open_bundle(bundle)
        assert sorted(hashed) == sorted(first.manifest.files)
        hashed.clear()
        open_bundle(bundle)
        assert hashed == []
        open_bundle(bundle, verify=True)
        assert sorted(hashed) == sorted(first.manifest.files)
        hashed.clear()
        open_bundle(bundle, verify=False)
        assert hashed == []

    @pytest.mark.parametrize("change", [_same_again, _in_place, lambda path: os.utime(path)])
    def test_another_file_is_hashed_again(
        self, bundle: Path, cache: Path, hashed: list[str], change: Callable[[Path], None]
    ) -> None:
        open_bundle(bundle)
        hashed.clear()
        change(bundle / "unet.safetensors")
        is_altered = change is _in_place
        with pytest.raises(BundleAltered, match="altered") if is_altered else nullcontext():
            open_bundle(bundle)
        assert hashed == ["unet.safetensors"]

    def test_what_was_hashed_is_compared_with_the_manifest(self, bundle: Path, cache: Path) -> None:
        open_bundle(bundle)
        path = bundle / "manifest.json"
        value = json.loads(path.read_text())
        value["files"]["unet.safetensors"]["sha256"] = "0" * 64
        path.write_text(json.dumps(value))
        with pytest.raises(BundleAltered, match="altered"):
            open_bundle(bundle)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"[" * 100_000,
            b'{"version": 1}',
            b'{"version": 1, "sha256": {"1:2:3:4:5": 7}}',
            b"\xff",
        ],
    )
    def test_a_broken_cache_is_none(self, bundle: Path, cache: Path, hashed: list[str], content: bytes) -> None:
        open_bundle(bundle)
        cache.write_bytes(content)
        hashed.clear()
        open_bundle(bundle)
        assert len(hashed) == FILES
        assert remembered()  # and is a whole one again

    def test_one_that_others_may_write_is_not_believed(self, bundle: Path, cache: Path, hashed: list[str]) -> None:
        open_bundle(bundle)
        cache.chmod(0o666)
        assert remembered() == {}
        cache.chmod(0o644)
        assert remembered()
        shutil.move(cache, cache.with_name("other"))
        cache.symlink_to("other")
        assert remembered() == {}

    def test_a_file_that_was_changed_just_now_is_not_remembered(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hashes, "_TICK_NS", 60_000_000_000)
        (tmp_path / "it").write_bytes(b"x")
        remember({FileIdentity.of((tmp_path / "it").stat()): "0" * 64})
        assert remembered() == {}

    def test_where_it_cannot_be_written_all_is_hashed(
        self, bundle: Path, tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(hashes, "_place", lambda: tmp_path / "file" / "hashes.json")
        for _ in range(2):
            hashed.clear()
            open_bundle(bundle)
            assert len(hashed) == FILES

    def test_it_does_not_grow_for_ever(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hashes, "_MOST_FILES", 10)
        for number in range(30):
            remember({FileIdentity(1, number, 3, 4, 5): "0" * 64})
        assert [name.split(":")[1] for name in remembered()] == [str(number) for number in range(20, 30)]


@pytest.mark.skipif(not hasattr(os, "link"), reason="needs hard links")
def test_the_built_in_bundle_may_be_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Package managers install files as links to their own store."""
    shutil.copytree(SHAPES, tmp_path / "models" / "shapes", copy_function=shutil.copy)
    for index, path in enumerate(sorted((tmp_path / "models" / "shapes").iterdir())):
        os.link(path, tmp_path / str(index))
    from pixrt.bundles import guard

    with pytest.raises(BundleError, match="hard links"):
        open_bundle(tmp_path / "models" / "shapes")
    monkeypatch.setattr(guard, "BUILT_IN", tmp_path / "models")
    open_bundle(tmp_path / "models" / "shapes")


def test_opening_again_takes_little_time(bundle: Path) -> None:
    open_bundle(bundle)
    started = time.perf_counter()
    open_bundle(bundle)
    assert time.perf_counter() - started < 5


def _change(value: dict[str, Any], path: list[Any], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


UNET_INPUT = ["components", "unet", "inputs", 0]


@pytest.mark.parametrize(
    ("path", "new", "words"),
    [
        (["native_resolution"], 10**9, "native_resolution is 1000000000, which must be from"),
        (["native_resolution"], 10**30, "native_resolution"),
        (["latents", "channels"], 10**6, "latents.channels"),
        (["latents", "scaling"], 1e300, "latents.scaling"),
        (["latents", "shift"], -1e300, "latents.shift"),
        (["defaults", "steps"], -1, "defaults.steps"),
        (["defaults", "guidance_scale"], 1e9, "defaults.guidance_scale"),
        (["preview", 0, 0], float("inf"), "preview[0][0] is inf"),
        (["scheduler", "beta_end"], float("nan"), "scheduler.beta_end is nan"),
        (["scheduler", "num_train_timesteps"], 10**30, "scheduler.num_train_timesteps"),
        (["components", "unet", "check", "max_error"], float("nan"), "components.unet.check.max_error"),
        (["name"], "x" * 5000, "name has 5000 characters"),
        (["name"], "a\x1b[2Jb", "control character"),
        (["notice"], "x" * 5000, "notice has 5000 characters"),
        (["tools", "torch"], "x" * 20_000, "tools.torch is a text of 20000 characters"),
        (["source", "sha256"], "../../../../tmp", "source.sha256"),
        (["files", "vocab.json", "sha256"], "x", "files.vocab.json.sha256"),
        (["files", "vocab.json", "bytes"], -1, "files.vocab.json.bytes"),
        ([*UNET_INPUT, "shape"], ["batch", 8, "height"], "sample of unet has 3 dimensions, which must be 4"),
        ([*UNET_INPUT, "shape"], ["batch"] * 100, "sample of unet has 100 dimensions"),
        ([*UNET_INPUT, "shape"], ["batch", -8, "height", "width"], "sample of unet has a dimension of -8"),
        ([*UNET_INPUT, "shape"], ["batch", 2**31, "height", "width"], "sample of unet has a dimension of"),
        (["components", "unet", "file"], "vocab.json", "no .onnx file"),
        (["family"], "flux" * 1000, "family"),
    ],
)
def test_numbers_and_texts_of_a_manifest_have_bounds(path: list[Any], new: Any, words: str) -> None:
    value = json.loads((SHAPES / "manifest.json").read_text())
    _change(value, path, new)
    with pytest.raises(BundleError) as caught:
        store.parse_manifest(json.dumps(value), "m")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 4100


@pytest.mark.parametrize("name", ["", ".", "..", "a//b", "./a", "a/../b", "C:x", "a\\b", "/a"])
def test_names_of_files_are_plain(name: str) -> None:
    value = json.loads((SHAPES / "manifest.json").read_text())
    value["files"][name] = value["files"]["vocab.json"]
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        store.parse_manifest(json.dumps(value), "m")
