"""`pixrt doctor`: what is installed, which backends open and why the others do not, and a one-step edit as a test."""

import os
import platform
from importlib import metadata

import numpy as np
import typer
from rich.table import Table

from pixrt._version import __version__
from pixrt.backends.registry import backend_statuses
from pixrt.cli.console import results
from pixrt.errors import BackendError, PixrtError

_LIBRARIES = ("numpy", "pillow", "tokenizers", "onnxruntime", "onnxruntime-gpu", "torch", "optimum", "diffusers")


def doctor() -> None:
    """Print versions, backends and threads, and edit one picture with one step of the built-in model."""
    from pixrt.editor import Editor

    table = Table(box=None, show_header=False)
    table.add_row("pixrt", __version__)
    table.add_row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    table.add_row("cores", str(os.cpu_count()))
    for name in _LIBRARIES:
        table.add_row(name, _version(name))
    for status in backend_statuses():
        table.add_row(f"backend {status.name}", f"{'yes' if status.available else 'no'}, {status.reason}")
    results.print(table, markup=False)
    try:
        with Editor() as editor:
            size = editor.manifest.native_resolution
            picture = np.full((size, size, 3), 128, np.uint8)
            result = editor.edit(picture, "make the background blue", steps=1, seed=0)
    except PixrtError as error:
        results.print(f"self-test: failed: {error}", markup=False)
        raise typer.Exit(error.exit_code) from error
    pixels = np.asarray(result.image)
    if pixels.shape != picture.shape or np.array_equal(pixels, picture):
        raise BackendError("the self-test gave back a wrong picture", remedy="Reinstall pixrt and onnxruntime")
    results.print(
        f"self-test: one step at {size} px on {result.backend}: {result.times.model_ms:.0f} ms"
        f" (opening the networks {result.times.load_ms:.0f} ms)",
        markup=False,
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
