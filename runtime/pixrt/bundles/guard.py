"""The files of a bundle: that they are what they look like, and all that its graphs read.

What was checked is what is loaded: a file's identity is noted when it is checked, and compared before and after a
library reads it. Must not import numpy or a backend.
"""

import os
import stat
from pathlib import Path, PurePosixPath

from pixrt.bundles.graphs import files_named
from pixrt.bundles.hashes import FileIdentity
from pixrt.bundles.manifest import Manifest
from pixrt.errors import BundleAltered, BundleError
from pixrt.reading import Malformed, kind_of, open_regular, shown

AGAIN = "Copy the bundle again, or export it again with `pixrt export`"
_COPY = "Copy the bundle with its contents, `cp -rL BUNDLE COPY`, and use the copy"
BUILT_IN = Path(__file__).parent.parent / "models"


def identify(folder: Path, name: str) -> FileIdentity:
    """What a file of the bundle in `folder` is now.

    Raises BundleError for one that is missing, no regular file, a link, or one file under several names: only of the
    built-in bundles, which are pixrt's own code as it was installed, a package manager may have made links.
    """
    path = folder / name
    try:
        status = path.lstat()
        resolved = folder.resolve()
        is_ours = resolved.is_relative_to(BUILT_IN.resolve())
        if is_ours:
            status = path.stat()
        elif path.resolve() != resolved / name:
            raise BundleError(f"{shown(path)} is a symbolic link, which could lead anywhere", remedy=_COPY)
    except FileNotFoundError:
        raise BundleError(f"{folder} lacks {name}, which its manifest lists", remedy=AGAIN) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{shown(path)} cannot be read: {reason}", remedy="Check its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{shown(path)} is {kind_of(status.st_mode)}, not a regular file", remedy=AGAIN)
    if status.st_nlink > 1 and not is_ours:
        raise BundleError(
            f"{shown(path)} has {status.st_nlink} names (hard links), by any of which it could be changed", remedy=_COPY
        )
    return FileIdentity.of(status)


def require_unchanged(folder: Path, name: str, seen: FileIdentity) -> None:
    """Raise BundleAltered if a file is not the one that was checked, BundleError as `identify` does."""
    if identify(folder, name) != seen:
        raise BundleAltered(f"{shown(folder / name)} has changed since it was checked", remedy="Open the bundle again")


def files_of_graph(folder: Path, manifest: Manifest, graph: str) -> tuple[str, ...]:
    """A graph's file, and the files that its weights are in, all of which the manifest lists.

    Raises BundleError for a graph that names another file, and for what is no ONNX graph.
    """

    def refuse(problem: str) -> BundleError:
        return BundleError(problem, remedy=AGAIN)

    path = folder / graph
    with open_regular(path, refuse) as file:
        try:
            named = files_named(file, os.fstat(file.fileno()).st_size)
        except (Malformed, OSError) as error:
            raise refuse(f"{shown(path)} cannot be used: {error}") from error
    beside = PurePosixPath(graph).parent
    names = {location: (beside / location).as_posix() for location in named}
    for location, name in sorted(names.items()):
        if name not in manifest.files:
            raise refuse(f"{shown(path)} has weights in {location!r:.200}, which the manifest does not list")
    return (graph, *sorted(names.values()))
