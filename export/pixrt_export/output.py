"""The output folder of an export: made aside, and put in place whole or not at all. Nothing of the user's is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixrt.bundles.engine_spec import ENGINES_FOLDER
from pixrt.bundles.manifest import MANIFEST_NAME, Manifest
from pixrt.bundles.store import read_manifest
from pixrt.errors import BundleError, OutputError
from pixrt.files import remove_leftovers, target_of
from pixrt.folders import atomic_folder, restore


@contextmanager
def bundle_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside the output that takes its place when everything went well, and is removed if not.

    At every moment the old bundle or the new one is there, whole; see `atomic_folder`. Raises OutputError before the
    work begins if the output cannot be used: it is a file or a mount point, is not empty, or (with `overwrite`) is not
    a bundle and nothing but a bundle.
    """
    target = require_output(output, overwrite=overwrite)
    with atomic_folder(output, overwrite=overwrite) as folder:
        yield folder
        _open_to_readers(folder)
        _require_replaceable(target, overwrite)  # again: a long time has passed


def require_output(output: Path, *, overwrite: bool) -> Path:
    """Where a bundle is to be, links followed. Raises OutputError if it cannot be used: see `bundle_folder`."""
    try:
        target = target_of(output)
        restore(target)
        _require_replaceable(target, overwrite)
    except (OSError, ValueError) as error:
        raise _refused(output, error) from error
    return target


def _require_replaceable(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{target} is a file", remedy="Choose another -o")
    if target.is_mount():
        raise OutputError(f"{target} is a mount point, which cannot be replaced", remedy="Name a folder inside it")
    remove_leftovers(target)
    names = {path.name for path in target.iterdir()}
    if not names:
        return
    if not overwrite:
        raise OutputError(f"{target} is not empty", remedy="Choose another -o, or pass --overwrite")
    try:
        manifest = read_manifest(target / MANIFEST_NAME)
    except BundleError as error:
        raise OutputError(f"{target} is not a bundle, so it is not overwritten", remedy="Choose another -o") from error
    others = {*_unlisted(target, manifest), *(names - manifest.files.keys() - {MANIFEST_NAME, ENGINES_FOLDER})}
    if others:
        raise OutputError(
            f"{target} holds {sorted(others)[0]}, which is not of the bundle, so it is not overwritten",
            remedy="Move it elsewhere, or choose another -o",
        )


def _unlisted(target: Path, manifest: Manifest) -> set[str]:
    """What is in the folder of the engines, beside the plans that the manifest lists and what their builder needs."""
    folder = target / ENGINES_FOLDER
    if not folder.is_dir():
        return {ENGINES_FOLDER} if folder.exists() else set()
    listed = {engine.file for engine in manifest.engines}
    found = {f"{ENGINES_FOLDER}/{path.name}" for path in folder.iterdir() if not _is_builders(path.name)}
    return found - listed


def _is_builders(name: str) -> bool:
    return name.startswith(".") and name.endswith((".lock", ".tmp"))


def _open_to_readers(folder: Path) -> None:
    """Give every file the permissions that the umask gave the manifest; the libraries' own are only for the owner."""
    mode = (folder / MANIFEST_NAME).stat().st_mode & 0o777
    for path in folder.iterdir():
        path.chmod(mode)


def _refused(output: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"cannot write {output}: {reason}", remedy="Free space, or choose another -o")
