"""Bundles with engines that `simulated_tensorrt` runs: `pixrt build`'s entries, plans that name ONNX files."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import simulated_rtx
import simulated_tensorrt
from kept import writable_copy
from pixrt.bundles.engine_spec import ShapeProfile
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt_engines import BuildOptions, Knobs
from pixrt_engines.library import Library
from pixrt_engines.plans import plan_engines
from pixrt_engines.shelf import Shelf
from pixrt_engines.targets import Targets

LIBRARIES = {
    "tensorrt": Library("tensorrt", simulated_tensorrt.__version__, simulated_tensorrt),
    "tensorrt-rtx": Library("tensorrt_rtx", simulated_rtx.__version__, simulated_rtx),
}
TARGETS = Targets(capabilities=("sm89",), gpu="the simulated GPU")


def with_engines(
    bundle: Path, folder: Path, *, knobs: Knobs | None = None, profile: ShapeProfile | None = None, **options: Any
) -> Path:
    """A copy of a bundle with an engine of every component for every shape asked for, or for another profile."""
    writable_copy(bundle, folder)
    opened = open_bundle(folder, verify=False)
    library = LIBRARIES[options.get("library", "tensorrt")]
    given: dict[str, Any] = {
        "components": tuple(map(Component, opened.manifest.components)),
        "library": "tensorrt",
    } | options
    asked = BuildOptions(bundle=str(folder), knobs=knobs or Knobs(), **given)
    shelf = Shelf(folder)
    shelf.open()
    for planned in plan_engines(asked, opened.manifest, library, TARGETS):
        entry = replace(planned.entry, profiles=(profile,) if profile else planned.entry.profiles)
        plan = {
            "onnx": str(opened.file(planned.component)),
            "profiles": [asdict(each) for each in entry.profiles],
            "refittable": entry.refittable or entry.stripped,
            "stripped": entry.stripped,
            "weight_streaming": entry.weight_streaming,
        }
        shelf.add(planned.name, memoryview(json.dumps(plan).encode()), entry)
    return folder
