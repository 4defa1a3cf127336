"""`pixrt doctor`: what is installed, which backends open and why the others do not, and a one-step edit as a test."""

import os
import platform
from importlib import metadata
from typing import Annotated

import typer

from pixrt._version import __version__
from pixrt.backends.registry import BACKENDS, LADDER, backend_statuses
from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.cli.console import facts_table, results, say
from pixrt.errors import BackendError, PixrtError

_LIBRARIES = dict.fromkeys(
    (
        *("numpy", "pillow", "tokenizers"),
        *(package for info in BACKENDS for package in info.packages),
        *("torch", "optimum", "diffusers"),
    )
)


def doctor(
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", metavar="BUNDLE", help="A bundle's folder or name.")
    ] = DEFAULT_BUNDLE,
) -> None:
    """Print versions, which backends can run a bundle and why the others cannot, and edit one picture with one step."""
    import numpy as np

    from pixrt.editor.editor import Editor

    facts = [
        ("pixrt", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("threads", f"{os.cpu_count()}, one per core unless --threads says otherwise"),
        *((name, _version(name)) for name in _LIBRARIES),
    ]
    facts.append(("CUDA", _devices()))
    opened = open_bundle(bundle)
    for status in backend_statuses(opened):
        facts.append((f"backend {status.name}", f"{'yes' if status.available else 'no'}, {status.reason}"))
    facts.append(("backend auto", f"the first of these that opens: {', '.join(info.name for info in LADDER)}"))
    results.print(facts_table(facts))
    try:
        with Editor(opened.folder, verify=False) as editor:
            size = editor.manifest.native_resolution
            picture = np.full((size, size, 3), 128, np.uint8)
            result = editor.edit(picture, "make the background blue", steps=1, seed=0)
            engines = editor.memory
    except PixrtError as error:
        say(f"self-test: failed: {error}")
        raise typer.Exit(error.exit_code) from error
    pixels = np.asarray(result.image)
    if pixels.shape != picture.shape or np.array_equal(pixels, picture):
        raise BackendError("the self-test gave back a wrong picture", remedy="Reinstall pixrt and onnxruntime")
    say(
        f"self-test: one step at {size} px on {result.backend}: {result.times.model_ms:.0f} ms"
        f" (opening the networks {result.times.load_ms:.0f} ms)",
    )
    for engine in engines:
        weights, scratch, arrays = (
            f"{size / 2**20:.1f} MiB" for size in (engine.weights_bytes, engine.scratch_bytes, engine.array_bytes)
        )
        say(f"  {engine.name}: weights {weights}, scratch {scratch} (shared), inputs and outputs {arrays}")


def _devices() -> str:
    """What CUDA sees here, or why nothing."""
    try:
        from pixrt.backends.tensorrt.cuda import describe_devices

        return describe_devices()
    except BackendError as error:
        return error.problem
    except (ImportError, OSError) as error:  # pycuda or cuda-bindings is not installed, or finds no driver
        return f"cannot be used: {str(error).splitlines()[0]}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
