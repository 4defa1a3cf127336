"""`pixrt doctor`: what is installed, which backends open and why others do not, and a picture of one step as a test."""

import dataclasses
import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Any

import typer

from pixrt._version import __version__
from pixrt.backends.driver import OLDEST_DRIVER, describe_driver
from pixrt.backends.openvino.cache import LIMIT_BYTES, CompiledNetworks
from pixrt.backends.ort.info import CUDA_OF_EXTRA
from pixrt.backends.registry import BACKENDS, advice_for, backend_statuses, ladder
from pixrt.bundles.store import DEFAULT_BUNDLE, Bundle, open_bundle
from pixrt.cli.console import say
from pixrt.cli.display import facts_table, print_table
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
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")] = False,
) -> None:
    """Print versions, which backends can run a bundle and why the others cannot, and make one picture with one step."""
    opened = open_bundle(bundle)
    facts = environment(opened)
    facts["bundle"] = {"name": opened.manifest.name, "task": opened.manifest.task, "folder": str(opened.folder)}
    facts["openvino_cache"] = _kept()
    facts["auto_because"] = told_of_auto(opened)
    if not as_json:
        print_table(facts_table([*_lines(facts)]))
    try:
        tested = _test(opened)
    except PixrtError as error:
        say(json.dumps({**facts, "test": {"error": str(error)}}) if as_json else f"self-test: failed: {error}")
        raise typer.Exit(error.exit_code) from error
    if as_json:
        say(json.dumps({**facts, "test": tested}))
        return
    took = f"{tested['model_ms']:.0f} ms (opening the networks {tested['load_ms']:.0f} ms)"
    say(f"self-test: one step at {tested['size']} px on {tested['backend']}: {took}")
    for engine in tested["engines"]:
        weights, scratch, arrays = (
            f"{engine[name] / 2**20:.1f} MiB" for name in ("weights_bytes", "scratch_bytes", "array_bytes")
        )
        say(f"  {engine['name']}: weights {weights}, scratch {scratch} (shared), inputs and outputs {arrays}")


def environment(bundle: Bundle) -> dict[str, Any]:
    """Versions, and which backends can run a bundle here, as JSON: no path."""
    return {
        "pixrt": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "threads": os.cpu_count(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "NVIDIA driver": {"found": describe_driver(), "needed": _needed_drivers()},
        "CUDA": _devices(),
        "backends": {
            status.name: {"available": status.available, "reason": status.reason} for status in backend_statuses(bundle)
        },
        "auto": [info.name for info in ladder(advice_for(bundle))],
    }


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """The facts for people, in the order in which they depend on each other."""
    yield from ((name, facts[name]) for name in ("pixrt", "python"))
    yield "threads", f"{facts['threads']}, one per core unless --threads says otherwise"
    yield from ((name, version or "not installed") for name, version in facts["libraries"].items())
    driver = facts["NVIDIA driver"]
    yield "NVIDIA driver", driver["found"]
    yield "drivers needed", "; ".join(f"pixrt[{extra}]: {needed}" for extra, needed in driver["needed"].items())
    yield "CUDA", facts["CUDA"]
    for name, status in facts["backends"].items():
        yield f"backend {name}", f"{'yes' if status['available'] else 'no'}, {status['reason']}"
    kept = facts["openvino_cache"]
    size = f"{kept['networks']} networks, {kept['bytes'] / 2**20:.1f} of at most {kept['most_bytes'] / 2**20:.0f} MiB"
    yield "kept by OpenVINO", f"{size}, in {kept['folder']}"
    because = f" ({facts['auto_because']})" if facts["auto_because"] else ""
    yield "backend auto", f"the first of these that opens: {', '.join(facts['auto'])}{because}"


def told_of_auto(bundle: Bundle) -> str | None:
    """What "auto" goes by beside the order of the list: what `pixrt tune` measured, or why that is not used."""
    advice = advice_for(bundle)
    return advice.note if advice.tuning is None else advice.tuning.reason


def _kept() -> dict[str, Any]:
    """The networks that OpenVINO compiled for this user, and where they are."""
    networks = CompiledNetworks()
    sizes = networks.sizes()
    return {
        "networks": len(sizes),
        "bytes": sum(sizes.values()),
        "most_bytes": LIMIT_BYTES,
        "folder": str(networks.folder),
    }


def _test(bundle: Bundle) -> dict[str, Any]:
    """Make one picture with one step, of what the bundle's network takes. Raises PixrtError."""
    import numpy as np

    from pixrt.editor.editor import Editor

    with Editor(bundle.folder, verify=False) as editor:
        size = editor.manifest.native_resolution
        picture = np.full((size, size, 3), 128, np.uint8)
        text = "make the background blue"
        match editor.manifest.task:
            case "edit":
                result = editor.edit(picture, text, steps=1, seed=0)
            case "inpaint":
                mask = np.arange(size * size).reshape(size, size) % size < size // 2
                result = editor.inpaint(picture, mask, text, steps=1, seed=0)
            case _:
                result = editor.generate(text, steps=1, seed=0)
        engines = [dataclasses.asdict(engine) for engine in editor.memory]
    pixels = np.asarray(result.image)
    if pixels.shape != picture.shape or np.array_equal(pixels, picture):
        raise BackendError("the self-test gave back a wrong picture", remedy="Reinstall pixrt and onnxruntime")
    times = {"model_ms": result.times.model_ms, "load_ms": result.times.load_ms}
    return {"size": size, "backend": result.backend, **times, "engines": engines}


def _needed_drivers() -> dict[str, str]:
    """By extra, the driver that the CUDA of its onnxruntime-gpu needs."""
    return {extra: f"{OLDEST_DRIVER[cuda]} or newer (CUDA {cuda})" for extra, cuda in CUDA_OF_EXTRA.items()}


def _devices() -> str:
    """What CUDA sees here, or why nothing."""
    try:
        from pixrt.backends.cuda.device import describe_devices

        return describe_devices()
    except BackendError as error:
        return error.problem
    except (ImportError, OSError) as error:  # pycuda or cuda-bindings is not installed, or finds no driver
        return f"cannot be used: {str(error).splitlines()[0]}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
