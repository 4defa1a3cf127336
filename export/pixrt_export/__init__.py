"""Everything that needs PyTorch: checkpoints, ONNX export, training. May import pixrt, never the reverse.

    from pixrt_export import ExportOptions, export_checkpoint
    export_checkpoint(ExportOptions(checkpoint="instruct-pix2pix", output=Path("bundle")))

PyTorch is imported when an export starts, not before.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pixrt_export.options import ExportOptions

if TYPE_CHECKING:
    from pixrt_export.export import ExportReport

__all__ = ["ExportOptions", "export_checkpoint"]


def export_checkpoint(options: ExportOptions, *, on_progress: Callable[[str], None]) -> "ExportReport":
    """Export a checkpoint to a bundle; see `pixrt_export.export`. `on_progress` is told each stage in a few words.

    Raises CheckpointError, ExportMismatch, OptionError, OutputError.
    """
    from pixrt_export.beforehand import require_export_paths
    from pixrt_export.quiet import quiet_libraries

    require_export_paths(options)
    quiet_libraries()
    from pixrt_export.export import run_export

    return run_export(options, on_progress)
