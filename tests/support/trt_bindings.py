"""What the real Python bindings of TensorRT and TensorRT-RTX take: a table of the members that pixrt uses.

    pip download --no-deps --dest WHEELS tensorrt_cu12_bindings==10.3.0 ...  # one a version, a megabyte each
    python tests/support/trt_bindings.py WHEELS

writes `tests/data/trt_signatures.json.gz`: for every member in `trt_calls`, its signatures and who has them.
NVIDIA's libraries are not needed: the bindings are imported over stubs that export the symbols they ask for, each in a
process of its own, and only their documentation is read. A test checks every call of pixrt against the table. It
needs gcc and nm, and an interpreter of the wheels' version. Must not import pixrt.
"""

import gzip
import importlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from trt_calls import uses

TABLE = Path(__file__).parent.parent / "data" / "trt_signatures.json.gz"
_STUBBED = re.compile(r"\[(lib(?:nvinfer|nvonnxparser|tensorrt)[\w.]*)\]")
_SYMBOL = re.compile(r" U ((?:create|get|init)\w+)$", re.MULTILINE)

Table = dict[str, dict[str, list[str]]]


def signatures(module: Any, member: str) -> str | None:
    """The signatures of a "Class.member", such as "(name: str, memory: int)", one a line; "" for one that is no method.

    None where there is no such member.
    """
    value = module
    for part in member.split("."):
        value = getattr(value, part, None)
        if value is None:
            return None
    if isinstance(value, type):
        value = value.__init__  # type: ignore[misc]
    if isinstance(value, property) or not callable(value):
        return ""
    name = value.__name__
    found = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", value.__doc__ or "", re.MULTILINE)
    return "\n".join(f"({_without_self(text)})" for text in found if not text.startswith("*args"))


def _without_self(text: str) -> str:
    text = re.sub(r"<([\w.]+): [^<>]*>", r"\1", text)  # the values of defaults
    text = re.sub(r"^(?:self|arg0): [\w.]+(?:, )?", "", text)
    return re.sub(r"\b(?:tensorrt|tensorrt_rtx)_bindings\.(?:tensorrt|tensorrt_rtx)\.", "", text)


def stub(library: Path, folder: Path) -> None:
    """Write the libraries that a binding asks for into a folder; none of their functions does anything."""
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    symbols = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
    code = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in sorted(set(_SYMBOL.findall(symbols))))
    for name in _STUBBED.findall(needed):
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-x", "c", "-", "-o", str(folder / name)]
        subprocess.run(command, input=code, text=True, check=True)


def read_wheel(wheel: Path) -> dict[str, str | None]:
    """The signatures of every member that pixrt uses, from one wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        (library,) = folder.glob("*_bindings/*.so")
        stub(library, folder)
        child = [sys.executable, __file__, "--import", library.parent.name]
        paths = {"LD_LIBRARY_PATH": scratch, "PYTHONPATH": f"{scratch}:{Path(__file__).parent}"}
        done = subprocess.run(child, capture_output=True, text=True, check=False, env=paths)
        if done.returncode:
            sys.exit(f"{wheel.name} cannot be imported: {done.stderr[-2000:]}")
        read: dict[str, str | None] = json.loads(done.stdout)
        return read


def main(folder: Path) -> None:
    """Write the table from the wheels in a folder."""
    table: Table = {}
    for wheel in sorted(folder.glob("tensorrt*_bindings-*.whl")):
        package, version = wheel.name.split("-")[:2]
        key = f"{'tensorrt_rtx' if 'rtx' in package else 'tensorrt'} {version}"
        for member, signature in read_wheel(wheel).items():
            if signature is not None:
                table.setdefault(member, {}).setdefault(signature, []).append(key)
        print(key)
    TABLE.write_bytes(gzip.compress(json.dumps(table, indent=1, sort_keys=True).encode(), mtime=0))


if __name__ == "__main__":
    if sys.argv[1] == "--import":
        loaded = importlib.import_module(sys.argv[2])
        print(json.dumps({member: signatures(loaded, member) for member in sorted({use.member for use in uses()})}))
    else:
        main(Path(sys.argv[1]))
