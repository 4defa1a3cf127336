"""Opening a training set on disk, whichever layout it has. Must not import PyTorch."""

import warnings
from pathlib import Path

from pixrt.errors import DataError
from pixrt_export.data import hugging_face, image_folder, original
from pixrt_export.data.hugging_face import HuggingFacePairs
from pixrt_export.data.image_folder import read_image_folder, read_image_table
from pixrt_export.data.options import ANY, SetOptions
from pixrt_export.data.original import read_original
from pixrt_export.data.rows import StoredPairs
from pixrt_export.data.stored import FolderPairs


def open_pairs(path: str | Path, options: SetOptions = ANY) -> StoredPairs:
    """Open the training set in a folder. Its index is read and checked; pictures are read when they are loaded.

    Raises DataError if the folder is of no known layout, empty, or has a row that cannot be a sample.
    """
    pairs = read_pairs(path, options)
    if pairs.bad_rows:
        first = pairs.bad_rows[0]
        others = f", and {len(pairs.bad_rows) - 1} more rows are wrong" if len(pairs.bad_rows) > 1 else ""
        raise DataError(
            f"{path}: {pairs.place(first.number)}: {first.reason}{others}",
            remedy="Correct or remove it; `pixrt data check` lists what is wrong",
        )
    return pairs


def read_pairs(path: str | Path, options: SetOptions = ANY) -> StoredPairs:
    """Like `open_pairs`, but rows that cannot be samples are left out and listed in `bad_rows`. Raises DataError."""
    folder = Path(path)
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise DataError(f"{folder} {what}", remedy="Give the folder of a training set")
        pairs = _read(folder, options)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder} cannot be reached: {reason}", remedy="Check the path") from error
    if pairs.skipped:
        of = len(pairs) + pairs.skipped
        warnings.warn(f"{pairs.skipped} of {of} samples of {folder} are left out: pictures are missing", stacklevel=2)
    if not len(pairs) and not pairs.bad_rows:
        raise DataError(f"{folder} holds no samples", remedy="Give the folder of a training set that has some")
    return pairs


def _read(folder: Path, options: SetOptions) -> StoredPairs:
    skips = options.skip_missing
    if (folder / original.INDEX).is_file():
        if options.columns:
            problem = f"{folder} is in InstructPix2Pix's own layout, which has no column {options.columns[0]!r}"
            raise DataError(problem, remedy="Leave the columns out")
        return FolderPairs(folder, original.INDEX, "entry", read_original(folder), skip_missing=skips)
    for index, read in ((image_folder.INDEX, read_image_folder), (image_folder.CSV_INDEX, read_image_table)):
        if (folder / index).is_file():
            return FolderPairs(folder, index, "line", read(folder, options), skip_missing=skips)
    saved = any((folder / name).is_file() for name in (hugging_face.INDEX, hugging_face.SPLITS_INDEX))
    if saved or hugging_face.parquet_files(folder):
        return HuggingFacePairs(folder, options)
    raise DataError(
        f"{folder} is no training set that is known: it has no {original.INDEX} (InstructPix2Pix's own layout), no"
        f" {image_folder.INDEX} or {image_folder.CSV_INDEX} (pictures and a table), no {hugging_face.INDEX} or"
        f" {hugging_face.SPLITS_INDEX} (saved by Hugging Face datasets) and no parquet files",
        remedy="Give the folder that holds one of them",
    )
