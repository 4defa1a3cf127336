"""Counts what edits ask of the networks, and which of their steps allocate; and what a process reads to make one.

The null backend computes nothing, so that a count takes no time; what is counted does not depend on it. Bytes between
host and device are counted in `tests/simulated/test_tensorrt.py`.
"""

import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixrt import Editor
from pixrt.apps.entries import read_entries
from pixrt.apps.gallery import Gallery
from pixrt.apps.journal import open_journal
from pixrt.backends.null import NullEngine
from pixrt.bundles.manifest import MANIFEST_NAME
from pixrt.bundles.store import BUILT_IN
from pixrt.core.pool import HostPool
from shapes import BLUE, SCENE
from text_bundle import text_bundle

SIDE = 256  # pixels: one state of the loop is 64 KiB, far above what the interpreter takes for itself
STATE_BYTES = 4 * (SIDE // 4) ** 2 * 4
Counts = dict[str, int]
_KINDS = {"text_encoder": "text", "vae_encoder": "encodes", "vae_decoder": "decodes"}

WHOLE: dict[str, Any] = {"steps": 6, "seed": 1, "guidance_scale": 5.0, "image_guidance_scale": 1.5}


def deep_bundle(folder: Path) -> Path:
    """The bundle `shapes` with a shallow network for DeepCache, for the null backend only."""
    text_bundle(folder)
    manifest = json.loads((BUILT_IN / "shapes" / MANIFEST_NAME).read_text())
    unet = manifest["components"]["unet"]
    feature = {"name": "deep_feature", "dtype": "float32", "shape": ["batch", 32, "deep_height", "deep_width"]}
    shallow = {**unet, "inputs": [*unet["inputs"], feature]}
    deep = {**unet, "outputs": [*unet["outputs"], feature]}
    manifest["components"] |= {"unet": deep, "unet_shallow": shallow}
    manifest["deep_cache"] = {"cache_branch_id": 0, "scale": 1}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Calls and rows of every network, and the steps that allocated as much as one state of the loop."""
    counts: Counter[str] = Counter(text=0, encodes=0, calls=0, rows=0, decodes=0, allocating=0)
    tie, step = NullEngine.tie, HostPool.step

    def counting(engine: NullEngine, tensors: Any) -> Callable[[], None]:
        run = tie(engine, tensors)
        name, rows = engine._spec.file.removesuffix(".onnx"), len(tensors[engine.inputs[0].name])
        shallow = "shallow_" if "deep_feature" in {tensor.name for tensor in engine.inputs} else ""

        def call() -> None:
            if name == "unet":
                counts[f"{shallow}calls"] += 1
                counts[f"{shallow}rows"] += rows
            else:
                counts[_KINDS[name]] += 1
                assert rows == 1
            run()

        return call

    def stepping(pool: HostPool, slots: Any = None) -> list[int]:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        ended = step(pool, slots)
        counts["allocating"] += tracemalloc.get_traced_memory()[1] - before >= STATE_BYTES
        return ended

    NullEngine.tie, HostPool.step = counting, stepping  # type: ignore[method-assign, assignment]
    tracemalloc.start()
    try:
        yield counts
    finally:
        tracemalloc.stop()
        NullEngine.tie, HostPool.step = tie, step  # type: ignore[method-assign]


def _edit(folder: Path, bundle: str | Path = "shapes", *, tile: int | None = None, count: int = 1, **more: Any) -> None:
    pictures = [np.full((SIDE, SIDE, 3), number, np.uint8) for number in range(count)]
    with Editor(bundle, backend="null", verify=False, tile=tile) as editor:
        editor.edit(pictures, BLUE, **{**WHOLE, "resolution": SIDE, **more})


def _masked(folder: Path) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, : SIDE // 2] = 255
    _edit(folder, mask=mask)


def _gallery(folder: Path) -> None:
    pictures, output = folder / "pictures", folder / "out"
    pictures.mkdir()
    for number in range(10):
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(pictures / f"{number}.png")
    with Editor("shapes", backend="null", verify=False, max_batch=4) as editor, open_journal(output, {}) as journal:
        entries = read_entries([str(pictures)], BLUE, {**WHOLE, "resolution": SIDE}, output)
        assert len(list(Gallery(editor, output, journal, max_batch=4).run(entries))) == 10


def _generate(folder: Path) -> None:
    with Editor(text_bundle(folder / "text"), backend="null", verify=False) as editor:
        editor.generate(BLUE, steps=6, seed=1, guidance_scale=5.0, width=SIDE, height=SIDE)


EDITS: dict[str, Callable[[Path], None]] = {
    "exact": _edit,
    "masked": _masked,
    "guidance window": lambda folder: _edit(folder, guidance_interval=(0.0, 0.5)),
    "branch interval": lambda folder: _edit(folder, branch_interval=2),
    "cache interval": lambda folder: _edit(folder, deep_bundle(folder / "deep"), cache_interval=3),
    "tiles": lambda folder: _edit(folder, tile=128),
    "batch of 4": lambda folder: _edit(folder, count=4),
    "gallery of 10": _gallery,
    "text to image": _generate,
}


def count_edit(name: str, folder: Path) -> Counts:
    """What one of `EDITS` asks for."""
    with counted() as counts:
        EDITS[name](folder)
    return dict(counts)


_PROCESS = """
import collections, hashlib, json, os, sys
opened, hashed = collections.Counter(), collections.Counter()
bundle = sys.argv[1] + os.sep
def hook(event, given):
    if event == "open" and isinstance(given[0], (str, bytes, os.PathLike)):
        path = os.fsdecode(given[0])
        if path.startswith(bundle) and os.path.isfile(path):
            opened[os.path.basename(path)] += 1
sys.addaudithook(hook)
digest = hashlib.file_digest
def file_digest(file, name):
    hashed[os.path.basename(file.name)] += 1
    return digest(file, name)
hashlib.file_digest = file_digest
from pixrt.cli import main
sys.argv[:] = ["pixrt", "edit", *sys.argv[2:]]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
import onnxruntime
loaded = sorted(sys.modules)
print(json.dumps([opened, hashed, loaded]))
"""


# Which of these are imported is typer's own business, and another one's in each of its versions.
_OF_TYPER = {"annotated_doc", "annotated_types", "pydantic", "pydantic_core", "shellingham", "typing_inspection"}
_OF_TYPER |= {"click", "cython_runtime", "typing_extensions"}


def count_process(output: Path, environment: dict[str, str]) -> dict[str, Any]:
    """A first `pixrt edit` of a process: reads and hashes of the bundle's files, and the packages that it imports.

    What ONNX Runtime reads itself is not seen: it maps a graph's weights.
    """
    words = [str(SCENE), "make it darker", "-b", "shapes", "-o", str(output), "--steps", "1", "-q", "--overwrite"]
    command = [sys.executable, "-c", _PROCESS, str(BUILT_IN / "shapes"), *words]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    opened, hashed, loaded = json.loads(done.stdout.splitlines()[-1])
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    return {
        "opened": opened,
        "hashed": hashed,
        "packages": sorted(name for name in packages - _OF_TYPER if not name.startswith("_")),
        "modules": sum(name.partition(".")[0] == "pixrt" for name in loaded),
    }
