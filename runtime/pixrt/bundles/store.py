"""Bundles on disk: finding one by name or path, and checking it before any of it is used.

Must not import a backend.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pixrt.bundles.manifest import MANIFEST_NAME, Component, FileSpec, Manifest, parse_manifest
from pixrt.errors import BundleAltered, BundleError

BUILT_IN = Path(__file__).parent.parent / "models"
DEFAULT_BUNDLE = "demo"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its folder and what its manifest says."""

    folder: Path
    manifest: Manifest

    def file(self, component: Component) -> Path:
        """The ONNX file of a component."""
        return self.folder / self.manifest.component(component).file


def models_folder() -> Path:
    """Where the user's own bundles are looked up by name: `$PIXRT_MODELS`, or the platform's data folder."""
    return Path(os.environ.get("PIXRT_MODELS") or platformdirs.user_data_path("pixrt") / "models")


def list_bundles() -> list[tuple[str, Path]]:
    """The bundles that have a name: the built-in ones, then the user's. A user's bundle hides a built-in one."""
    found: dict[str, Path] = {}
    for folder in (BUILT_IN, models_folder()):
        # A folder that may not be read, such as another user's, holds no bundle for this one.
        with suppress(OSError):
            found |= {path.parent.name: path.parent for path in sorted(folder.glob(f"[!.]*/{MANIFEST_NAME}"))}
    return list(found.items())


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a bundle, given by a name of `list_bundles` or by path. Raises BundleError for neither.

    A name comes first: a folder that happens to be called like a bundle must not take its place; `./demo` is a path.
    """
    bundles = dict(list_bundles())
    if str(name_or_path) in bundles:
        return bundles[str(name_or_path)]
    path = Path(name_or_path)
    try:
        if path.is_dir():
            return path
        if path.is_file():
            raise BundleError(f"{path} is a file", remedy="A bundle is a folder; `pixrt export` writes one")
    except (OSError, ValueError) as error:
        raise BundleError(f"the bundle {path} cannot be reached: {error}", remedy="Check the path") from error
    raise BundleError(
        f"there is no bundle {str(name_or_path)!r}: it is neither a folder nor one of {', '.join(bundles) or '(none)'}",
        remedy="Give the folder that `pixrt export` wrote, or a name that `pixrt models` lists",
    )


def open_bundle(name_or_path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Open a bundle and check every file of it against the manifest: presence, size and, with `verify`, SHA-256.

    Raises BundleError, BundleAltered or BundleTooNew.
    """
    folder = find_bundle(name_or_path)
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(
            f"{folder} has no {MANIFEST_NAME}, so it is not a bundle, or its export did not finish",
            remedy="Run `pixrt export CHECKPOINT -o BUNDLE`; a checkpoint folder must be exported first",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}", remedy="Check its permissions, or export again") from error
    manifest = parse_manifest(text, str(path))
    _check_files(folder, manifest.files, verify)
    return Bundle(folder, manifest)


def _check_files(folder: Path, files: dict[str, FileSpec], verify: bool) -> None:
    for name, spec in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder} lacks {name}, which its manifest lists", remedy=_AGAIN)
        size = path.stat().st_size
        if size != spec.bytes:
            kind = "truncated" if size < spec.bytes else "altered"
            raise BundleAltered(f"{path} is {kind}: {size} bytes, {spec.bytes} in the manifest", remedy=_AGAIN)
    if verify:
        # hashlib releases the interpreter lock, so two threads read and hash on two cores.
        with ThreadPoolExecutor(max_workers=2) as pool:
            digests = pool.map(sha256_file, [folder / name for name in files])
        for (name, spec), digest in zip(files.items(), digests, strict=True):
            if digest != spec.sha256:
                raise BundleAltered(
                    f"{folder / name} is altered: SHA-256 {digest[:12]}..., {spec.sha256[:12]}... in the manifest",
                    remedy=_AGAIN,
                )


_AGAIN = "Copy the bundle again, or export it again with `pixrt export`"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces. Raises BundleError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}", remedy="Check its permissions") from error


def total_bytes(files: Iterable[FileSpec]) -> int:
    """Size of a bundle's files in bytes."""
    return sum(file.bytes for file in files)
