"""What is wrong with the paths of an export or a training, told before PyTorch is imported, which takes long."""

from pathlib import Path
from typing import Any

from pixrt.errors import DataError, EmbeddingError, LoraError, OutputError, PixrtError
from pixrt_export.hub import find_vae
from pixrt_export.opening import find_parts
from pixrt_export.options import ExportOptions
from pixrt_export.output import require_output
from pixrt_export.single_file import is_file


def require_export_paths(options: ExportOptions) -> None:
    """Raise CheckpointError, LoraError, EmbeddingError or OutputError where an export's file or folder is missing."""
    require_output(options.output, overwrite=options.overwrite)
    errors: tuple[tuple[tuple[Any, ...], type[PixrtError]], ...] = (
        (options.loras, LoraError),
        (options.embeddings, EmbeddingError),
    )
    for given, kind in errors:
        for each in given:
            path = Path(each[0] if isinstance(each, tuple) else each)
            if not path.exists():
                raise kind(f"there is no file {path}", remedy="Check the path")
    if options.vae is not None:
        find_vae(options.vae, options.allow_pickle)
    if not is_file(Path(options.checkpoint)):
        find_parts(options.checkpoint, allow_pickle=options.allow_pickle, other_vae=options.vae is not None)


def require_training_paths(checkpoint: str | None, data: str, output: Path) -> None:
    """Raise CheckpointError, DataError or OutputError where what a run begins with is missing, or it has no folder."""
    if output.is_file():
        raise OutputError(f"{output} is a file", remedy="Give a folder with -o")
    if data and not Path(data).is_dir():
        what = "is a file" if Path(data).exists() else "does not exist"
        raise DataError(f"{data} {what}", remedy="Give the folder of a training set")
    if checkpoint:
        find_parts(checkpoint)
