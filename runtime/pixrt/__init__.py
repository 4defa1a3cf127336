"""pixrt: instruction-guided image editing without PyTorch at run time.

    from pixrt import Editor
    result = Editor().edit("picture.png", "make the circle red")
    result.save("edited.png")

Names are imported when first used, so that `import pixrt` costs next to nothing.
"""

import importlib

from pixrt._version import __version__

# Type checkers know the name. That of `typing` would take most of the time until the command line hears of signals.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pixrt.bundles.store import Bundle, open_bundle
    from pixrt.editor.bar import ProgressBar
    from pixrt.editor.editor import Editor
    from pixrt.editor.events import Failed, Made, StepInfo, Stepped
    from pixrt.editor.history import Session
    from pixrt.editor.result import EditResult, Estimate
    from pixrt.editor.run import Run
    from pixrt.errors import (
        BackendError,
        BundleAltered,
        BundleError,
        BundleTooNew,
        Cancelled,
        CheckpointError,
        EmbeddingError,
        EngineError,
        ExportMismatch,
        LoraError,
        OptionError,
        OutputError,
        PictureError,
        PixrtError,
    )
    from pixrt.options.marking import MarkingOptions
    from pixrt.options.session import SessionOptions
    from pixrt.options.tasks import EditOptions, GenerateOptions, Img2ImgOptions, InpaintOptions, StyleOptions
    from pixrt.pictures.codecs import read_parameters
    from pixrt.pictures.marking import Marking
    from pixrt.tasks.jobs import Job

_HOME = {
    "Editor": "editor.editor",
    "Estimate": "editor.result",
    "EditOptions": "options.tasks",
    "GenerateOptions": "options.tasks",
    "Img2ImgOptions": "options.tasks",
    "InpaintOptions": "options.tasks",
    "StyleOptions": "options.tasks",
    "SessionOptions": "options.session",
    "MarkingOptions": "options.marking",
    "Marking": "pictures.marking",
    "Job": "tasks.jobs",
    "EditResult": "editor.result",
    "StepInfo": "editor.events",
    "ProgressBar": "editor.bar",
    "Stepped": "editor.events",
    "Made": "editor.events",
    "Failed": "editor.events",
    "Run": "editor.run",
    "Session": "editor.history",
    "Bundle": "bundles.store",
    "open_bundle": "bundles.store",
    "read_parameters": "pictures.codecs",
    "BackendError": "errors",
    "BundleAltered": "errors",
    "BundleError": "errors",
    "BundleTooNew": "errors",
    "Cancelled": "errors",
    "CheckpointError": "errors",
    "EngineError": "errors",
    "ExportMismatch": "errors",
    "LoraError": "errors",
    "EmbeddingError": "errors",
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
    "EmbeddingError",
    "EngineError",
    "Estimate",
    "ExportMismatch",
    "Failed",
    "GenerateOptions",
    "Img2ImgOptions",
    "InpaintOptions",
    "Job",
    "LoraError",
    "Made",
    "Marking",
    "MarkingOptions",
    "OptionError",
    "OutputError",
    "PictureError",
    "PixrtError",
    "ProgressBar",
    "Run",
    "Session",
    "SessionOptions",
    "StepInfo",
    "Stepped",
    "StyleOptions",
    "__version__",
    "open_bundle",
    "read_parameters",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
