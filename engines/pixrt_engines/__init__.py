"""ONNX to TensorRT plans, at build time. May import pixrt, never PyTorch."""

from pixrt_engines.building import BuildListener, BuildPlan, BuiltEngine, check_build, plan_build, run_build
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
]
