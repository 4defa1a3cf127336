"""ONNX to TensorRT plans, at build time. May import pixrt, never PyTorch.

Names are imported when first used: the command line takes its flags from `options` only.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixrt_engines.building import (
        BuildListener,
        BuildPlan,
        BuiltEngine,
        check_build,
        plan_build,
        run_build,
        without_covered,
    )
    from pixrt_engines.options import BuildOptions, Knobs

__all__ = [
    "BuildListener",
    "BuildOptions",
    "BuildPlan",
    "BuiltEngine",
    "Knobs",
    "check_build",
    "plan_build",
    "run_build",
    "without_covered",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "options" if name in ("BuildOptions", "Knobs") else "building"
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
