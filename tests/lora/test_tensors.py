"""safetensors files: read as the package reads them, and nothing but MalformedTensors for what is broken."""

import hashlib
import json
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
