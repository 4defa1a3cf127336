"""Plan files of a bundle: is an engine for this machine, and is its file the very one that was built.

A plan is executable code, so nothing of it is deserialised before path, owner, mode, size and SHA-256 were checked; the
bytes that were hashed are the bytes that are returned, or stand in the very file that is left open. A plan is hashed
when it is read, and not before. Must not import TensorRT or a backend.
"""

import hashlib
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from pixrt.bundles.engine_owner import is_own
from pixrt.bundles.engine_spec import ENGINES_FOLDER, EngineLibrary, EngineSpec
from pixrt.bundles.manifest import MANIFEST_NAME, Component, Manifest
from pixrt.errors import EngineError

_PLAN = re.compile(rf"{ENGINES_FOLDER}/[A-Za-z0-9][A-Za-z0-9_.-]*\.plan")
AMPERE = 80  # sm80, the first generation that hardware-compatible engines run on


def engine_problem(spec: EngineSpec, library: EngineLibrary, version: str, capability: str) -> str | None:
    """Why an engine cannot run here, or None. `version` is the library's, `capability` the GPU's, such as "sm89".

    TensorRT takes only its own version, or with version compatibility any later one of the same major; TensorRT-RTX
    its own major.minor.
    """
    if spec.library != library:
        return f"{spec.file} is an engine of {spec.library}, and {library} is in use"
    if problem := _version_problem(spec, version):
        return problem
    if capability in spec.targets:
        return None
    wide = spec.hardware_compatible and int(capability.removeprefix("sm")) >= AMPERE
    if wide:
        return None
    covers = f"{', '.join(spec.targets)}{', and sm80 and later' if spec.hardware_compatible else ''}"
    tied = f", built on {spec.gpu}" if spec.gpu else ""
    return f"{spec.file} is for {covers}{tied}; the GPU here is {capability}"


def _version_problem(spec: EngineSpec, version: str) -> str | None:
    built, here = _numbers(spec.library_version), _numbers(version)
    if spec.library == "tensorrt_rtx":
        fits, takes = built[:2] == here[:2], "an engine of RTX needs the same major and minor version"
    elif spec.version_compatible:
        fits, takes = built[:1] == here[:1] and built <= here, "it needs that version or a later one of the same major"
    else:
        fits, takes = built == here, "an engine needs the very version, unless built with --version-compatible"
    if fits:
        return None
    return f"{spec.file} was built by {spec.library} {spec.library_version}, and {version} is here: {takes}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def source_files(manifest: Manifest, component: str) -> tuple[str, ...]:
    """A component's ONNX file and, if its weights stand outside, their file. Raises EngineError without it."""
    if component not in manifest.components:
        raise EngineError(f"bundle {manifest.name!r} has no component {component}", remedy=_BUILD)
    files = [manifest.components[component].file]
    outside = [f"{files[0]}_data", file_of_weights(component)]
    if component in (Component.UNET_STEP, Component.UNET_SHALLOW) and Component.UNET in manifest.components:
        outside.append(f"{manifest.components[Component.UNET].file}_data")  # they have the UNet's weights
    return (*files, *(name for name in outside if name in manifest.files))


def file_of_weights(component: str) -> str:
    """The file of a component's weights in a bundle that holds its checkpoint; several components may share one."""
    owner = "vae" if component.startswith("vae") else component.removesuffix("_step").removesuffix("_shallow")
    return f"{owner}.safetensors"


def source_digest(manifest: Manifest, component: str) -> str:
    """SHA-256 over the SHA-256s of `source_files`, as the manifest has them. Raises EngineError."""
    digests = [manifest.files[name].sha256 for name in source_files(manifest, component)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def is_plan_name(file: str) -> bool:
    """Whether a manifest's path of a plan is one in the folder of the engines."""
    return _PLAN.fullmatch(file) is not None


def owner_problem(spec: EngineSpec) -> str | None:
    """Why the plan of an engine must not be run without the user's leave, or None if this user has built it."""
    if is_own(spec.sha256):
        return None
    return f"{spec.file} was not built by you here, and a plan is code: --trust-engines runs it all the same"


def read_engine(folder: Path, spec: EngineSpec, manifest: Manifest, *, own_only: bool = False) -> bytes:
    """The plan of an engine of the bundle in `folder`, after every check that needs no GPU.

    Raises EngineError for a path that leaves the folder, a link, another owner, a file that others may write, a
    truncated, altered or swapped plan, and one that was built from other weights than the bundle's; with `own_only`
    for one that this user has not built.
    """
    path = _place(folder, spec, manifest, own_only=own_only)
    plan = read_trusted(path, limit=max(engine.bytes for engine in (spec, *manifest.engines)))
    _check_content(path, spec, manifest, len(plan), hashlib.sha256(plan).hexdigest())
    return plan


def open_engine(folder: Path, spec: EngineSpec, manifest: Manifest, *, own_only: bool = False) -> BufferedReader:
    """As `read_engine`, the file open at its beginning: it is hashed piece by piece, never whole in memory."""
    path = _place(folder, spec, manifest, own_only=own_only)
    file = _open_trusted(path)
    try:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _check_content(path, spec, manifest, file.tell(), digest)
        file.seek(0)
    except OSError as error:
        file.close()
        raise EngineError(f"{path} cannot be read: {error.strerror}", remedy="Check the disk") from error
    except BaseException:
        file.close()
        raise
    return file


def check_engine(folder: Path, spec: EngineSpec, manifest: Manifest, *, own_only: bool = False) -> None:
    """The checks of `read_engine` that need no byte of the plan: also its size. Raises EngineError."""
    path = _place(folder, spec, manifest, own_only=own_only)
    with _open_trusted(path) as file:
        _check_size(path, spec, os.fstat(file.fileno()).st_size)


def _place(folder: Path, spec: EngineSpec, manifest: Manifest, *, own_only: bool) -> Path:
    """Where the plan is. Raises EngineError where it or its guards are not as a build leaves them."""
    if own_only and (problem := owner_problem(spec)):
        raise EngineError(problem, remedy=_BUILD)
    if not is_plan_name(spec.file):
        raise EngineError(
            f"the engine path {spec.file!r} leaves the folder {ENGINES_FOLDER} of the bundle", remedy=_NOT_OURS
        )
    if spec.source_sha256 != source_digest(manifest, spec.component):
        raise EngineError(
            f"{spec.file} was built from other weights than the {spec.component} that the bundle has now", remedy=_BUILD
        )
    _check_guard(folder / MANIFEST_NAME)
    _check_guard(folder / ENGINES_FOLDER)
    return folder / spec.file


def _check_content(path: Path, spec: EngineSpec, manifest: Manifest, bytes_: int, digest: str) -> None:
    if digest == spec.sha256 and bytes_ == spec.bytes:
        return
    for other in manifest.engines:
        if digest == other.sha256:
            raise EngineError(f"{path} holds the plan of {other.file}: the files were swapped", remedy=_BUILD)
    _check_size(path, spec, bytes_)
    raise EngineError(
        f"{path} is altered: SHA-256 {digest[:12]}..., {spec.sha256[:12]}... in the manifest", remedy=_BUILD
    )


def _check_size(path: Path, spec: EngineSpec, bytes_: int) -> None:
    if bytes_ != spec.bytes:
        kind = "truncated" if bytes_ < spec.bytes else "longer than it was built"
        raise EngineError(f"{path} is {kind}: {bytes_} bytes, {spec.bytes} in the manifest", remedy=_BUILD)


def _check_guard(path: Path) -> None:
    """The manifest vouches for the plans, and the folder holds them: both must be the user's as the plans must."""
    try:
        status = path.lstat()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", remedy=_BUILD) from error
    if stat.S_ISLNK(status.st_mode):
        raise EngineError(f"{path} is a symbolic link, which could lead anywhere", remedy=_NOT_OURS)
    _check_owner(path, status)


def read_trusted(path: Path, limit: int) -> bytes:
    """A file that is code, if nobody but the user and root can have written it; one byte more tells it is longer.

    Raises EngineError.
    """
    with _open_trusted(path) as file:
        try:
            return file.read(limit + 1)
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}", remedy="Check the disk") from error


def _open_trusted(path: Path) -> BufferedReader:
    # Not blocking, so that a pipe in the file's place is told and not waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if path.is_symlink():
            raise EngineError(f"{path} is a symbolic link, which could lead anywhere", remedy=_NOT_OURS)
        fd = os.open(path, flags)
    except FileNotFoundError as error:
        raise EngineError(f"{path} is missing, and the manifest lists it", remedy=_BUILD) from error
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", remedy="Check its permissions") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise EngineError(f"{path} is not a regular file", remedy=_NOT_OURS)
        _check_owner(path, status)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def _check_owner(path: Path, status: os.stat_result) -> None:
    if os.name != "posix":
        return
    if status.st_uid not in (0, os.geteuid()):
        raise EngineError(
            f"{path} belongs to user {status.st_uid}, neither to you ({os.geteuid()}) nor to root", remedy=_NOT_OURS
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineError(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):o}), and a plan is code",
            remedy=f"If you trust it: `chmod go-w {path}`; else build it again with `pixrt build`",
        )


_BUILD = "Build it again with `pixrt build`"
_NOT_OURS = "It is not as `pixrt build` writes it: find out who changed it, then build it again with `pixrt build`"
