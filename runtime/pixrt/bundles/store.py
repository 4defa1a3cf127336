"""Bundles on disk: finding one by name or path, and checking it before any of it is used.

Must not import a backend.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from pixrt.bundles.guard import AGAIN, files_of_graph, identify, require_unchanged
from pixrt.bundles.guard import BUILT_IN as BUILT_IN
from pixrt.bundles.hashes import FileIdentity, remember, remembered
from pixrt.bundles.manifest import (
    MANIFEST_NAME,
    MOST_MANIFEST_BYTES,
    Component,
    FileSpec,
    Manifest,
    parse_manifest,
)
from pixrt.errors import BundleAltered, BundleError
from pixrt.places import data_folder
from pixrt.reading import read_text

DEFAULT_BUNDLE = "demo"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/([A-Za-z0-9][\w.-]*)")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its folder, what its manifest says, and what its files were when they were checked.

    `graphs` are the files of each component: its graph, and the files that its weights are in.
    """

    folder: Path
    manifest: Manifest
    checked: Mapping[str, FileIdentity] = field(default_factory=dict, compare=False, repr=False)
    graphs: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)

    def file(self, component: Component) -> Path:
        """The ONNX file of a component."""
        return self.folder / self.manifest.component(component).file

    @contextmanager
    def loading(self, component: Component) -> Iterator[Path]:
        """A component's ONNX file while a library reads it, or the files that it names: those that were checked.

        Raises BundleAltered where they have changed, or change meanwhile.
        """
        spec = self.manifest.component(component)
        names = self.graphs.get(component) or files_of_graph(self.folder, self.manifest, spec.file)
        before = {name: self.checked.get(name) or identify(self.folder, name) for name in names}
        self._require_unchanged(before)
        yield self.folder / spec.file
        self._require_unchanged(before)

    def require_unchanged(self, *names: str) -> None:
        """Raise BundleAltered where one of these files is not the one that was checked."""
        self._require_unchanged({name: self.checked[name] for name in names if name in self.checked})

    def _require_unchanged(self, files: Mapping[str, FileIdentity]) -> None:
        for name, seen in files.items():
            require_unchanged(self.folder, name, seen)


def models_folder() -> Path:
    """Where the user's own bundles are looked up by name: `$PIXRT_MODELS`, or the platform's data folder."""
    return Path(os.environ.get("PIXRT_MODELS") or data_folder() / "models")


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
            remedy = "A bundle is a folder; `pixrt export` writes one"
            if path.suffix.lower() in (".safetensors", ".ckpt"):
                remedy = f"A LoRA goes with --lora {path}; of a checkpoint `pixrt export {path} -o BUNDLE` makes one"
            raise BundleError(f"{path} is a file", remedy=remedy)
    except (OSError, ValueError) as error:
        raise BundleError(f"the bundle {path} cannot be reached: {error}", remedy="Check the path") from error
    repository = _HUB_ID.fullmatch(str(name_or_path))
    remedy = "Give the folder that `pixrt export` wrote, or a name that `pixrt models` lists"
    if repository is not None:  # the name of a checkpoint, as the hub has it
        remedy = f"Of a checkpoint of the hub `pixrt pull {repository[0]}` makes one: -b {repository[1]}"
    elif near := get_close_matches(str(name_or_path)[:100], bundles, 1):
        remedy = f"The nearest name is {near[0]}; {remedy[0].lower()}{remedy[1:]}"
    raise BundleError(
        f"there is no bundle {str(name_or_path)!r}: it is neither a folder nor one of {', '.join(bundles) or '(none)'}",
        remedy=remedy,
    )


def open_bundle(name_or_path: str | os.PathLike[str], *, verify: bool | None = None) -> Bundle:
    """Open a bundle and check every file of it against the manifest: kind, presence, size and SHA-256.

    A SHA-256 is remembered in the user's cache for as long as a file is the same; with `verify` all are computed anew,
    with False none is compared. Graphs that name files which the manifest does not list are refused, with False when
    they are loaded. Raises BundleError, BundleAltered or BundleTooNew.
    """
    folder = find_bundle(name_or_path)
    path = folder / MANIFEST_NAME
    if not os.path.lexists(path):
        if any((folder / name).exists() for name in ("model_index.json", "unet")):
            raise BundleError(
                f"{folder} is a checkpoint, not a bundle yet", remedy=f"Run `pixrt export {folder} -o BUNDLE` first"
            )
        if (folder / "adapter_config.json").exists():
            raise BundleError(f"{folder} is a LoRA, not a bundle", remedy=f"Give it with --lora {folder}")
        raise BundleError(
            f"{folder} has no {MANIFEST_NAME}, so it is not a bundle, or its export did not finish",
            remedy="Run `pixrt export CHECKPOINT -o BUNDLE`",
        )
    manifest = read_manifest(path)
    checked = _check_files(folder, manifest.files, verify)
    graphs = {}
    if verify is not False:  # else when they are loaded
        graphs = {name: files_of_graph(folder, manifest, spec.file) for name, spec in manifest.components.items()}
    bundle = Bundle(folder, manifest, checked, graphs)
    bundle.require_unchanged(*(name for names in graphs.values() for name in names))
    return bundle


def read_manifest(path: Path) -> Manifest:
    """A manifest on disk. Raises BundleError or BundleTooNew."""

    def refuse(problem: str) -> BundleError:
        return BundleError(problem, remedy="Check its permissions, or export again")

    return parse_manifest(read_text(path, MOST_MANIFEST_BYTES, refuse), str(path))


def _check_files(folder: Path, files: Mapping[str, FileSpec], verify: bool | None) -> dict[str, FileIdentity]:
    found = {}
    for name, spec in files.items():
        found[name] = identify(folder, name)
        size = found[name].bytes
        if size != spec.bytes:
            kind = "truncated" if size < spec.bytes else "altered"
            raise BundleAltered(f"{folder / name} is {kind}: {size} bytes, {spec.bytes} in the manifest", remedy=AGAIN)
    if verify is False:
        return found
    known = {} if verify else remembered()
    new = [name for name, identity in found.items() if str(identity) not in known]
    # hashlib releases the interpreter lock, so two threads read and hash on two cores.
    with ThreadPoolExecutor(max_workers=2) as pool:
        digests = dict(zip(new, pool.map(sha256_file, [folder / name for name in new]), strict=True))
    for name in new:
        require_unchanged(folder, name, found[name])
    for name, spec in files.items():
        digest = digests.get(name) or known[str(found[name])]
        if digest != spec.sha256:
            raise BundleAltered(
                f"{folder / name} is altered: SHA-256 {digest[:12]}..., {spec.sha256[:12]}... in the manifest",
                remedy=AGAIN,
            )
    remember({found[name]: digest for name, digest in digests.items()})
    return found


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
