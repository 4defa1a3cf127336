"""TensorRT or TensorRT-RTX, as one value: which is installed, its version, and what it can do.

The two have the same Python interface, so everything else takes a `Library` and asks it. Must not import either at its
top.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from pixrt.backends.registry import WITH_ENGINES
from pixrt.bundles.engine_spec import EngineLibrary
from pixrt.errors import OptionError, PackageMissing

# RTX first: its engines are portable, and it builds where there is no GPU.
_AUTO = ("tensorrt-rtx", "tensorrt")


@dataclass(frozen=True, slots=True)
class Library:
    """An imported library. `module` is `tensorrt` or `tensorrt_rtx`."""

    name: EngineLibrary
    version: str
    module: Any

    @property
    def is_rtx(self) -> bool:
        """TensorRT-RTX: builds for chosen compute capabilities, without a GPU too, and finishes engines at load."""
        return self.name == "tensorrt_rtx"

    @property
    def targets(self) -> tuple[str, ...]:
        """The compute capabilities that can be chosen, such as "sm89"; empty where the GPU at hand is the only one."""
        if not self.is_rtx:
            return ()
        return tuple(name.lower() for name in self.module.ComputeCapability.__members__ if name.startswith("SM"))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())


def open_library(choice: str = "auto") -> Library:
    """Import a library; "auto" takes TensorRT-RTX before TensorRT. Raises OptionError or PackageMissing."""
    if choice not in ("auto", *WITH_ENGINES):
        raise OptionError(f"library is {choice!r}", remedy=f"Choose one of auto, {', '.join(WITH_ENGINES)}")
    wanted = _AUTO if choice == "auto" else (choice,)
    for name in wanted:
        library = _import(WITH_ENGINES[name])
        if library is not None:
            return library
    raise PackageMissing(
        f"building engines needs {' or '.join(wanted)}, which cannot be imported here",
        remedy=f"Install it: pip install 'pixrt[{wanted[0]}]'",
    )


def _import(name: EngineLibrary) -> Library | None:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError):  # OSError: its shared libraries are missing
        return None
    # A folder that stubs left is importable and empty.
    if not hasattr(module, "Builder"):
        return None
    return Library(name, str(module.__version__), module)
