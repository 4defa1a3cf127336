"""Tensors of the KServe v2 protocol, out of a request's body and into an answer's, as JSON or as bytes behind the JSON.

The binary form is Triton's "binary tensor data" extension. Knows no HTTP and no pictures. Must not import numpy or
Pillow.
"""

import base64
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pixrt.serve.interfaces.effort import check_json
from pixrt.serve.interfaces.fields import is_unicode
from pixrt.serve.problems import Problem

Datatype = Literal["BYTES", "UINT8", "INT64"]
_LENGTH = struct.Struct("<I")  # before every element of a BYTES tensor
_MOST_DIMENSIONS = 4
_MOST_ELEMENTS = 1 << 31


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor: BYTES and INT64 hold a tuple of elements, UINT8 its bytes in row-major order.

    `is_text` says that BYTES came as JSON strings; of what is sent, that they may go as such.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: Any = field(repr=False)
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client sent, tensors read; `outputs` are the wanted ones by name, with whether as bytes; None for all."""

    id: str | None
    parameters: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, bool] | None
    binary_output: bool


def bad(message: str, param: str | None = None, code: str = "invalid_tensor") -> Problem:
    """The 400 of a request that is not as the protocol or a tensor wants it."""
    return Problem(400, code, message, param)


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """The request in a body. `header_length` is the value of `Inference-Header-Content-Length`. Raises Problem 400."""
    head, rest = _split(body, header_length)
    check_json(head)
    try:
        request = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise bad(f"The request is not JSON: {error!s:.200}. Send a JSON object.", code="invalid_json") from error
    _is(request, dict, "The request", None)
    unknown = sorted(request.keys() - {"id", "parameters", "inputs", "outputs"} - {"model_name"})
    if unknown:
        raise bad(f"There is no field {unknown[0]!r:.60} in a request. Leave it out.", unknown[0], "unknown_parameter")
    id = request.get("id")
    if id is not None:
        _is(id, str, "id", "id")
        if not is_unicode(id):
            raise bad("id holds half of a character. Send text.", "id")
    parameters = dict(_is(request.get("parameters", {}), dict, "parameters", "parameters"))
    binary_output = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    inputs: dict[str, Tensor] = {}
    for described in _is(request.get("inputs"), list, "inputs", "inputs"):
        tensor, rest = _read_input(described, rest)
        if tensor.name in inputs:
            raise bad(f"{tensor.name} is given twice. Give it once.", tensor.name)
        inputs[tensor.name] = tensor
    if rest:
        raise bad(
            f"{len(rest)} bytes follow the last tensor. Every binary_data_size together must be what follows the JSON."
        )
    return InferRequest(id, parameters, inputs, _wanted(request.get("outputs"), binary_output), binary_output)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isascii() or not header_length.isdigit() or not 0 < int(header_length[:20]) <= len(body):
        raise bad(
            f"Inference-Header-Content-Length is {header_length!r:.40}, and the body has {len(body)} bytes. Give the"
            " length of the JSON.",
            "Inference-Header-Content-Length",
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]


def _read_input(described: Any, rest: memoryview) -> tuple[Tensor, memoryview]:
    """One input, and what of the binary data is left for those after it."""
    name = _is(_is(described, dict, "An input", "inputs").get("name"), str, "An input's name", "inputs")
    datatype = described.get("datatype")
    if datatype not in ("BYTES", "UINT8"):
        raise bad(f"The datatype of {name} is {datatype!r:.40}. Send BYTES or UINT8.", name)
    shape = tuple(_is(described.get("shape"), list, f"The shape of {name}", name))
    if not 0 < len(shape) <= _MOST_DIMENSIONS or not all(type(side) is int and side > 0 for side in shape):
        raise bad(f"The shape of {name} is {list(shape)!r:.80}. Its 1 to 4 sides are whole numbers from 1 on.", name)
    count = math.prod(shape)
    if count > _MOST_ELEMENTS:
        raise bad(f"The shape of {name} is of {count} elements. Send at most {_MOST_ELEMENTS}.", name)
    parameters = dict(_is(described.get("parameters", {}), dict, f"The parameters of {name}", name))
    size = parameters.pop("binary_data_size", None)
    for unknown in parameters:
        raise bad(f"{unknown!r:.60} of {name} is not supported. Send its data.", name, "unsupported_parameter")
    if size is None:
        values = list(_flat(_is(described.get("data"), list, f"The data of {name}", name), len(shape)))
        return _from_json(name, datatype, shape, values), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise bad(
            f"binary_data_size of {name} is {size!r:.40}, and {len(rest)} bytes are left. Give its bytes' number.", name
        )
    return _from_bytes(name, datatype, shape, bytes(rest[:size])), rest[size:]


def _flat(values: Iterable[Any], depth: int) -> Iterator[Any]:
    """The elements of JSON arrays that are nested up to `depth` times, or not at all."""
    for value in values:
        if isinstance(value, list) and depth > 1:
            yield from _flat(value, depth - 1)
        else:
            yield value


def _from_json(name: str, datatype: Datatype, shape: tuple[int, ...], values: list[Any]) -> Tensor:
    if len(values) != math.prod(shape):
        raise bad(
            f"{name} has {len(values)} values, and the shape {list(shape)}. They must be {math.prod(shape)}.", name
        )
    if datatype == "BYTES":
        for value in values:
            _is(value, str, f"A value of {name}", name)
        return Tensor(name, datatype, shape, tuple(values), is_text=True)
    try:
        return Tensor(name, datatype, shape, bytes(values))
    except (TypeError, ValueError) as error:
        raise bad(f"A value of {name} is not a whole number from 0 to 255. Send UINT8.", name) from error


def _from_bytes(name: str, datatype: Datatype, shape: tuple[int, ...], data: bytes) -> Tensor:
    count = math.prod(shape)
    if datatype == "UINT8":
        if len(data) != count:
            raise bad(f"{name} has {len(data)} bytes, and the shape {list(shape)}. They must be {count}.", name)
        return Tensor(name, datatype, shape, data)
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise bad(f"{name} ends within the length of element {len(elements)}. It is 4 bytes, little-endian.", name)
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            raise bad(
                f"Element {len(elements)} of {name} says {length} bytes, of {len(data) - at}. Give its length.", name
            )
        elements.append(data[at : at + length])
        at += length
    if len(elements) != count:
        raise bad(f"{name} has {len(elements)} elements, and the shape {list(shape)}. They must be {count}.", name)
    return Tensor(name, datatype, shape, tuple(elements))


def _wanted(outputs: Any, binary_output: bool) -> dict[str, bool] | None:
    if outputs is None:
        return None
    wanted = {}
    for described in _is(outputs, list, "outputs", "outputs"):
        name = _is(_is(described, dict, "An output", "outputs").get("name"), str, "An output's name", "outputs")
        parameters = dict(_is(described.get("parameters", {}), dict, f"The parameters of {name}", name))
        wanted[name] = _flag(parameters.pop("binary_data", binary_output), "binary_data")
        for unknown in parameters:
            raise bad(f"{unknown!r:.60} of {name} is not supported. Leave it out.", name, "unsupported_parameter")
    return wanted or None


def _flag(value: Any, name: str) -> bool:
    return bool(_is(value, bool, name, name))


def _is(value: Any, kind: type[Any], what: str, param: str | None) -> Any:
    if not isinstance(value, kind):
        words = {dict: "an object", list: "an array", str: "a string", bool: "true or false"}
        raise bad(f"{what} is {value!r:.60}. Send {words[kind]}.", param)
    return value


def write_answer(head: Mapping[str, Any], tensors: Sequence[Tensor], binary: Mapping[str, bool]) -> tuple[bytes, int]:
    """The body of an answer and how long its JSON is; the body is longer if any of `tensors` is to go as bytes."""
    described, parts = [], []
    for tensor in tensors:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if binary[tensor.name]:
            parts.append(_to_bytes(tensor))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = _to_json(tensor)
        described.append(entry)
    text = json.dumps({**head, "outputs": described}, separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join([text, *parts]), len(text)


def _to_bytes(tensor: Tensor) -> bytes:
    if isinstance(tensor.data, bytes):
        return tensor.data
    if tensor.datatype == "INT64":
        return struct.pack(f"<{len(tensor.data)}q", *tensor.data)
    return b"".join(part for value in tensor.data for part in (_LENGTH.pack(len(value)), value))


def _to_json(tensor: Tensor) -> list[Any]:
    if tensor.datatype != "BYTES":
        return list(tensor.data)
    return [str(value, "utf-8") if tensor.is_text else base64.b64encode(value).decode() for value in tensor.data]
