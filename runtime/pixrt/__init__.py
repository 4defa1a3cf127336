"""pixrt: instruction-guided image editing without PyTorch at run time.

    from pixrt import Editor
    result = Editor().edit("picture.png", "make the circle red")
    result.save("edited.png")

Names are imported when first used, so that `import pixrt` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

from pixrt._version import __version__

if TYPE_CHECKING:
    from pixrt.editor import Editor
    from pixrt.errors import (
        BackendError,
        BundleAltered,
        BundleError,
        BundleTooNew,
        Cancelled,
        CheckpointError,
        EngineError,
        ExportMismatch,
        LoraError,
        OptionError,
        OutputError,
        PictureError,
        PixrtError,
    )
    from pixrt.jobs import Job
    from pixrt.options import EditOptions, GenerateOptions, Img2ImgOptions, InpaintOptions, StyleOptions
    from pixrt.result import EditResult, Estimate, StepInfo
    from pixrt.session import Session
    from pixrt.store import Bundle, open_bundle

_HOME = {
    "Editor": "editor",
    "Estimate": "result",
    "EditOptions": "options",
    "GenerateOptions": "options",
    "Img2ImgOptions": "options",
    "InpaintOptions": "options",
    "StyleOptions": "options",
    "Job": "jobs",
    "EditResult": "result",
    "StepInfo": "result",
    "Session": "session",
    "Bundle": "store",
    "open_bundle": "store",
    "BackendError": "errors",
    "BundleAltered": "errors",
    "BundleError": "errors",
    "BundleTooNew": "errors",
    "Cancelled": "errors",
    "CheckpointError": "errors",
    "EngineError": "errors",
    "ExportMismatch": "errors",
    "LoraError": "errors",
    "OptionError": "errors",
    "OutputError": "errors",
    "PictureError": "errors",
    "PixrtError": "errors",
}

__all__ = [
    "BackendError",
    "Bundle",
    "BundleAltered",
    "BundleError",
    "BundleTooNew",
    "Cancelled",
    "CheckpointError",
    "EditOptions",
    "EditResult",
    "Editor",
    "EngineError",
    "Estimate",
    "ExportMismatch",
    "GenerateOptions",
    "Img2ImgOptions",
    "InpaintOptions",
    "Job",
    "LoraError",
    "OptionError",
    "OutputError",
    "PictureError",
    "PixrtError",
    "Session",
    "StepInfo",
    "StyleOptions",
    "__version__",
    "open_bundle",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
