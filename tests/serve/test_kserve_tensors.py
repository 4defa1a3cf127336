"""KServe's tensors as Triton's documents write them, in and out, and every way in which a body can be wrong."""

import base64
import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.serve.interfaces.tensors import InferRequest, Tensor, read_request, write_answer
from pixrt.serve.problems import Problem


def request(head: dict[str, Any], *binary: bytes) -> InferRequest:
    text = json.dumps(head).encode()
    return read_request(text + b"".join(binary), str(len(text)) if binary else None)


def tensor(name: str = "A", datatype: str = "UINT8", shape: Any = (2,), **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), **more}


def of(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


def test_the_documents_example_of_binary_data() -> None:
    """Two tensors behind the JSON, in its order; one output as binary data."""
    text = b"\x03\x00\x00\x00abc\x00\x00\x00\x00"
    read = request(
        {
            "inputs": [tensor("input0", "UINT8", (2, 2), **of(4)), tensor("input1", "BYTES", (2,), **of(len(text)))],
            "outputs": [{"name": "output0", "parameters": {"binary_data": True}}, {"name": "output1"}],
        },
        b"\x01\x02\x03\xff",
        text,
    )
    assert read.inputs["input0"] == Tensor("input0", "UINT8", (2, 2), b"\x01\x02\x03\xff")
    assert read.inputs["input1"] == Tensor("input1", "BYTES", (2,), (b"abc", b""))
    assert read.outputs == {"output0": True, "output1": False}


def test_json_tensors_nested_and_flat() -> None:
    inputs = [tensor("A", shape=(2, 2), data=[[1, 2], [4, 5]]), tensor("B", shape=(2, 2), data=[1, 2, 4, 5])]
    read = request({"id": "42", "inputs": inputs, "parameters": {"binary_data_output": True, "steps": 3}})
    assert read.inputs["A"].data == read.inputs["B"].data == b"\x01\x02\x04\x05"
    assert (read.id, read.parameters, read.outputs, read.binary_output) == ("42", {"steps": 3}, None, True)


def test_json_and_binary_tensors_together() -> None:
    inputs = [tensor("A", "BYTES", (1,), data=["é"]), tensor("B", **of(2)), tensor("C", data=[7, 8])]
    read = request({"inputs": inputs}, b"\x05\x06")
    assert [read.inputs[name].data for name in "ABC"] == [("é",), b"\x05\x06", b"\x07\x08"]


@pytest.mark.parametrize(
    ("wrong", "binary", "words"),
    [
        ([], b"", "The request is []"),
        ({}, b"", "inputs is None"),
        ({"inputs": {}}, b"", "inputs is {}"),
        ({"inputs": [3]}, b"", "An input is 3"),
        ({"inputs": [], "output": []}, b"", "There is no field 'output'"),
        ({"inputs": [], "id": 3}, b"", "id is 3"),
        ({"inputs": [], "parameters": []}, b"", "parameters is []"),
        ({"inputs": [], "parameters": {"binary_data_output": 1}}, b"", "binary_data_output is 1"),
        ({"inputs": [], "outputs": {}}, b"", "outputs is {}"),
        ({"inputs": [], "outputs": [{}]}, b"", "An output's name is None"),
        ({"inputs": [], "outputs": [{"name": "A", "parameters": {"classification": 3}}]}, b"", "classification"),
        ({"inputs": [tensor(data=[1, 2]), tensor(data=[1, 2])]}, b"", "A is given twice"),
        ({"inputs": [tensor(datatype="FP32", data=[1.0, 2.0])]}, b"", "datatype of A is 'FP32'"),
        ({"inputs": [tensor(shape=())]}, b"", "shape of A is []"),
        ({"inputs": [tensor(shape=(1, 1, 1, 1, 2))]}, b"", "shape of A is [1, 1, 1, 1, 2]"),
        ({"inputs": [tensor(shape=(-1,))]}, b"", "shape of A is [-1]"),
        ({"inputs": [tensor(shape=(2.0,))]}, b"", "shape of A is [2.0]"),
        ({"inputs": [tensor(shape=(1 << 20, 1 << 20))]}, b"", "1099511627776 elements"),
        ({"inputs": [tensor()]}, b"", "data of A is None"),
        ({"inputs": [tensor(data=[1])]}, b"", "A has 1 values"),
        ({"inputs": [tensor(data=[1, 256])]}, b"", "from 0 to 255"),
        ({"inputs": [tensor(data=[1, "2"])]}, b"", "from 0 to 255"),
        ({"inputs": [tensor(data=[1, [2, [3]]])]}, b"", "from 0 to 255"),
        ({"inputs": [tensor(datatype="BYTES", data=["a", 3])]}, b"", "A value of A is 3"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "x"})]}, b"", "shared_memory_region"),
        ({"inputs": [tensor(**of(-1))]}, b"xx", "binary_data_size of A is -1"),
        ({"inputs": [tensor(**of(3))]}, b"xx", "binary_data_size of A is 3, and 2 bytes are left"),
        ({"inputs": [tensor(**of(2)), tensor("B", **of(1))]}, b"xx", "binary_data_size of B is 1, and 0 bytes"),
        ({"inputs": [tensor(**of(1))]}, b"xx", "A has 1 bytes"),
        ({"inputs": [tensor(**of(2))]}, b"xxx", "1 bytes follow the last tensor"),
        ({"inputs": [tensor(datatype="BYTES", **of(2))]}, b"xx", "ends within the length"),
        ({"inputs": [tensor(datatype="BYTES", **of(5))]}, b"\x02\0\0\0x", "says 2 bytes, of 1"),
        ({"inputs": [tensor(datatype="BYTES", **of(5))]}, b"\x01\0\0\0x", "A has 1 elements"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(wrong: Any, binary: bytes, words: str) -> None:
    with pytest.raises(Problem) as raised:
        request(wrong, *([binary] if binary else []))
    assert raised.value.status == 400
    assert words in raised.value.message


@pytest.mark.parametrize("length", ["0", "-1", "1e1", "3 ", "999", "9" * 5000, "²"])
def test_a_wrong_length_of_the_json(length: str) -> None:
    with pytest.raises(Problem, match="Inference-Header-Content-Length"):
        read_request(b'{"inputs": []}', length)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"id": ' + b"9" * 5000 + b"}"])
def test_what_is_not_json(body: bytes) -> None:
    with pytest.raises(Problem, match="not JSON"):
        read_request(body, None)


WORDS = st.sampled_from(["inputs", "outputs", "parameters", "name", "datatype", "shape", "data", "binary_data_size"])
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["UINT8", "BYTES"])
)
JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4))
INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["A", "B"]),
        "datatype": st.sampled_from(["UINT8", "BYTES"]),
        "shape": st.lists(st.integers(0, 3), max_size=3),
    },
    optional={"data": JSON, "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 9)})},
)


@given(JSON | st.fixed_dictionaries({"inputs": st.lists(INPUT, max_size=2)}), st.binary(max_size=12), st.booleans())
def test_whatever_comes_is_read_or_told_what_is_wrong(head: Any, binary: bytes, has_length: bool) -> None:
    text = json.dumps(head).encode()
    with suppress(Problem):
        read = read_request(text + binary, str(len(text)) if has_length else None)
        assert all(len(each.data) == math.prod(each.shape) for each in read.inputs.values())


TENSORS = (
    Tensor("IMAGE", "BYTES", (2,), (b"\x89PNG", b"")),
    Tensor("SEED", "INT64", (2,), (1, 2**63 - 1)),
    Tensor("PIXELS", "UINT8", (1, 3), b"\x00\x01\xff"),
    Tensor("INFO", "BYTES", (1,), ('{"é": 1}'.encode(),), is_text=True),
)


def test_an_answer_as_json() -> None:
    body, length = write_answer({"model_name": "m"}, TENSORS, dict.fromkeys(("IMAGE", "SEED", "PIXELS", "INFO"), False))
    assert length == len(body)
    answer = json.loads(body)
    assert answer["model_name"] == "m"
    assert [output["data"] for output in answer["outputs"]] == [
        [base64.b64encode(b"\x89PNG").decode(), ""],
        [1, 2**63 - 1],
        [0, 1, 255],
        ['{"é": 1}'],
    ]
    assert [output["shape"] for output in answer["outputs"]] == [[2], [2], [1, 3], [1]]


def test_an_answer_with_binary_data() -> None:
    binary = {"IMAGE": True, "SEED": True, "PIXELS": True, "INFO": False}
    body, length = write_answer({}, TENSORS, binary)
    outputs = json.loads(body[:length])["outputs"]
    assert [output.get("parameters") for output in outputs] == [
        {"binary_data_size": 12},
        {"binary_data_size": 16},
        {"binary_data_size": 3},
        None,
    ]
    assert body[length:] == b"\x04\0\0\0\x89PNG\0\0\0\0" + b"\x01" + b"\0" * 7 + b"\xff" * 7 + b"\x7f" + b"\x00\x01\xff"
