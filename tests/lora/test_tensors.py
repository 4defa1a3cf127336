"""safetensors files: read as the package reads them, and nothing but MalformedTensors for what is broken."""

import hashlib
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loras import write
from pixrt.lora.safetensors import MalformedTensors, TensorFile

SOME = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from([np.float32, np.float16, np.float64]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensors")


@given(SOME, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_what_is_written_is_read(folder: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    path = write(folder / "it", tensors, metadata)
    file = TensorFile(path)
    found, sha256 = file.read()
    assert file.names == list(tensors)
    assert file.metadata == metadata
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.torch
def test_bfloat16_is_as_pytorch_has_it(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    values = torch.randn(5, 3).bfloat16()
    save_file({"a": values, "b": values.float()}, folder / "bf16", metadata={"k": "v"})
    found, _ = TensorFile(folder / "bf16").read()
    np.testing.assert_array_equal(found["a"], values.float().numpy())
    np.testing.assert_array_equal(found["b"], values.float().numpy())


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda text: len(text).to_bytes(8, "little") + text))
def test_noise_is_refused(folder: Path, content: bytes) -> None:
    (folder / "noise").write_bytes(content)
    try:
        TensorFile(folder / "noise").read()
    except MalformedTensors:
        return
    assert json.loads(content[8:].decode()) in ({}, {"__metadata__": {}})


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]},
        {"dtype": "F8", "shape": [8], "data_offsets": [0, 8]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "data_offsets": [0, 8]},
        "F32",
    ],
)
def test_a_header_that_cannot_be(folder: Path, entry: Any) -> None:
    text = json.dumps({"a": entry}).encode()
    (folder / "it").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(MalformedTensors):
        TensorFile(folder / "it")


def test_a_file_that_is_cut_or_changes(folder: Path) -> None:
    path = write(folder / "cut", {"a": np.ones(4, np.float32)})
    file = TensorFile(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(MalformedTensors, match="ends beyond"):
        file.read()
    with pytest.raises(MalformedTensors, match="cut off"):
        TensorFile(path)
    write(path, {"b": np.ones(4, np.float32)})
    with pytest.raises(MalformedTensors, match="changed"):
        file.read()


def put(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def at(start: int, stop: int, shape: list[int] | None = None, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [stop - start] if shape is None else shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("header", "size", "words"),
    [
        ({"a": at(0, 4), "b": at(0, 4)}, 4, "overlaps"),
        ({"a": at(0, 4), "b": at(2, 6)}, 6, "overlaps"),
        ({"a": at(0, 4), "b": at(5, 8)}, 8, "leaves a gap"),
        ({"a": at(1, 4)}, 4, "leaves a gap"),
        ({"a": at(0, 4)}, 5, "end at 4 of 5 bytes"),
        ({}, 1, "end at 0 of 1 bytes"),
        ({"a": at(0, 1, [1] * 9)}, 1, "9 dimensions"),
        ({"x" * 5000: at(0, 1)}, 1, "a name of 5000 characters"),
        ({"a": at(0, 4, [10**30])}, 4, "no shape"),
        ({"a": at(0, 4, [2**61, 2**61])}, 4, "in 4 bytes"),
        ({"a": at(0, 8, dtype="C64")}, 8, "complex numbers"),
        ({"a": at(0, 8, dtype="F4")}, 8, "4-bit floats"),
        ({"a": at(0, 8, dtype="Q4_K")}, 8, "none of"),
        (b'{"a": {}, "a": {}}', 0, "twice"),
        (b" {}", 0, "no safetensors header"),
        (b'{"a": NaN}', 0, "NaN"),
        (b'{"\\ud800": 1}', 0, "surrogate"),
        (b"[]", 0, "no safetensors header"),
        (b'{"a": ' + b"[" * 100_000, 0, "nested"),
        (b'{"a": ' + b"1" * 400 + b"}", 0, "400 characters"),
    ],
)
def test_what_the_package_refuses_is_refused(folder: Path, header: Any, size: int, words: str) -> None:
    with pytest.raises(MalformedTensors, match=words):
        TensorFile(put(folder / "it", header, bytes(size)))


LAYOUT = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.integers(0, 12), st.sampled_from(["U8", "I16", "F32"])),
    max_size=4,
)


@given(LAYOUT, st.integers(0, 14))
def test_layouts_are_judged_as_the_package_judges_them(folder: Path, layout: Any, size: int) -> None:
    safetensors = pytest.importorskip("safetensors")
    sizes = {"U8": 1, "I16": 2, "F32": 4}
    header = {n: at(a, b, [max(0, b - a) // sizes[kind]], kind) for n, a, b, kind in layout}
    path = put(folder / "it", header, bytes(size))
    try:
        safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError:
        with pytest.raises(MalformedTensors):
            TensorFile(path)
    else:
        TensorFile(path)


def test_a_header_of_four_megabytes_holds_nobody_up(folder: Path) -> None:
    """Of each kind that took a minute: a product of many sizes, numbers of many digits, many nothings."""
    headers = {
        "sizes": json.dumps({"a": at(0, 4, [999_999_999] * 380_000)}).encode(),
        "digits": b'{"a": [' + b",".join([b"9" * 4000] * 1000) + b"]}",
        "nothings": b'{"a": [' + b",".join([b"[]"] * 1_300_000) + b"]}",
        "names": json.dumps({"a" * 3 + str(i): at(0, 0, [0]) for i in range(60_000)}).encode(),
    }
    for name, header in headers.items():
        started = time.process_time()
        path = put(folder / name, header, b"")
        if name == "names":
            assert len(TensorFile(path).names) == 60_000
        else:
            with pytest.raises(MalformedTensors):
                TensorFile(path)
        assert time.process_time() - started < 10, name


def test_overlapping_tensors_take_no_memory(folder: Path) -> None:
    """Twenty megabytes that a thousand tensors share would be twenty gigabytes as float32."""
    size = 20 << 20
    path = put(folder / "it", {f"a{i}": at(0, size, [size // 2], "BF16") for i in range(1000)}, bytes(size))
    tracemalloc.start()
    with pytest.raises(MalformedTensors, match="overlaps"):
        TensorFile(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 << 20


def test_a_tensor_is_converted_when_it_is_asked_for(folder: Path) -> None:
    size = 8 << 20
    header = {f"a{i}": at(i * size, (i + 1) * size, [size // 2], "BF16") for i in range(4)}
    file = TensorFile(put(folder / "it", header, bytes(4 * size)))
    tracemalloc.start()
    found, _ = file.read()
    assert list(found) == ["a0", "a1", "a2", "a3"]
    assert tracemalloc.get_traced_memory()[1] < 5 * size
    tracemalloc.stop()


KINDS = {
    "BOOL": (np.bool_, [True, False]),
    "U8": (np.uint8, [0, 255]),
    "I8": (np.int8, [-128, 127]),
    "I16": (np.int16, [-32768, 32767]),
    "U16": (np.uint16, [0, 65535]),
    "I32": (np.int32, [-(2**31), 1]),
    "U32": (np.uint32, [0, 2**32 - 1]),
    "I64": (np.int64, [-(2**63), 1]),
    "U64": (np.uint64, [0, 2**64 - 1]),
}


@pytest.mark.parametrize("dtype", KINDS)
def test_whole_numbers_are_read_as_what_they_are(folder: Path, dtype: str) -> None:
    kind, values = KINDS[dtype]
    data = np.array(values, np.dtype(kind).newbyteorder("<")).tobytes()
    found, _ = TensorFile(put(folder / "it", {"a": at(0, len(data), [2], dtype)}, data)).read()
    assert found["a"].dtype == kind
    assert found["a"].tolist() == values


@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "theirs"), [("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")])
def test_fp8_is_as_pytorch_has_it(folder: Path, dtype: str, theirs: str) -> None:
    torch = pytest.importorskip("torch")
    data = bytes(range(256))
    found, _ = TensorFile(put(folder / "it", {"a": at(0, 256, [256], dtype)}, data)).read()
    expected = torch.frombuffer(bytearray(data), dtype=getattr(torch, theirs)).float().numpy()
    np.testing.assert_array_equal(found["a"], expected)


def test_fp8_known_values(folder: Path) -> None:
    data = bytes([0x38, 0xB8, 0x7E, 0x01, 0x7F, 0x00])  # 1, -1, the largest, the smallest, NaN, 0
    found, _ = TensorFile(put(folder / "it", {"a": at(0, 6, [6], "F8_E4M3")}, data)).read()
    np.testing.assert_array_equal(found["a"], np.array([1, -1, 448, 2**-9, np.nan, 0], np.float32))


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(MalformedTensors, match="not a regular file"):
            TensorFile(tmp_path / name)
