"""Which files an ONNX graph names, read out of its protobuf before any library opens it. Imports no library for it.

A graph may keep weights in other files, and a node may name a file of compiled code. Only the few messages of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto that lead there are walked; numbers are passed over, not read.
Must not import numpy or anything of pixrt but errors and reading.
"""

from io import BytesIO
from typing import BinaryIO

from pixrt.reading import Malformed

# Message: its fields that hold messages on the way to the name of a file.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_KEY, _VALUE, _OPERATOR = 1, 2, 4
_LOCATION, _COMPILED = b"location", b"EPContext"  # the operator whose node is another library's compiled code
_SMALL_BYTES = 1 << 20  # of a message that is read at once
_MOST_FIELDS = 5_000_000
_DEEPEST = 64
_ORT_FORMAT = b"ORTM"


def files_named(file: BinaryIO, size: int) -> frozenset[str]:
    """The files that a graph, of `size` bytes, says its weights are in, as it spells them.

    Raises Malformed for what is no ONNX graph, and for a node of compiled code.
    """
    if file.read(8)[4:] == _ORT_FORMAT:
        raise Malformed("it is in ONNX Runtime's own format")
    file.seek(0)
    walk = _Walk()
    walk.message(file, size, "model", 0)
    return frozenset(walk.found)


class _Walk:
    def __init__(self) -> None:
        self.found: set[str] = set()
        self._fields = 0

    def message(self, file: BinaryIO, end: int, kind: str, depth: int) -> None:
        """Every field up to `end`; messages that can name a file in turn."""
        if depth > _DEEPEST:
            raise Malformed(f"its graphs are nested more than {_DEEPEST} deep")
        children, key, value = _MESSAGES[kind], b"", b""
        while (at := file.tell()) < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise Malformed(f"it has more than {_MOST_FIELDS} fields")
            number, length = _field(file, end)
            start = file.tell()
            if not at < start + length <= end:
                raise Malformed(f"it is no ONNX graph, or cut off (at byte {at})")
            if number in children:
                self._child(file, start + length, children[number], depth + 1)
            elif kind == "entry" and number in (_KEY, _VALUE):
                text = file.read(length)
                key, value = (text, value) if number == _KEY else (key, text)
            elif kind == "node" and number == _OPERATOR and file.read(length) == _COMPILED:
                raise Malformed("it has a node of compiled code (EPContext), which names a file of its own")
            file.seek(start + length)
        if kind == "entry" and key == _LOCATION:
            self.found.add(value.decode(errors="backslashreplace"))

    def _child(self, file: BinaryIO, stop: int, kind: str, depth: int) -> None:
        length = stop - file.tell()
        if length > _SMALL_BYTES:
            self.message(file, stop, kind, depth)
            return
        data = file.read(length)
        # The bytes of a name stand together: what lacks these names no file.
        if kind == "entry" or _LOCATION in data or _COMPILED in data:
            self.message(BytesIO(data), length, kind, depth)


def _field(file: BinaryIO, end: int) -> tuple[int, int]:
    """A field's number and the bytes of its content, at which the file stands then."""
    tag = _varint(file)
    wire = tag & 7
    if tag >> 32 or tag >> 3 == 0:
        raise Malformed("it is no ONNX graph")
    if wire == 0:
        _varint(file)
        return tag >> 3, 0
    if wire == 2:
        return tag >> 3, min(_varint(file), end + 1)
    if wire in (1, 5):
        return tag >> 3, 8 if wire == 1 else 4
    raise Malformed("it is no ONNX graph")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise Malformed("it is no ONNX graph, or cut off")
