"""TensorRT and TensorRT-RTX where they are installed: engines are built, the pictures are the CPU's, and the time."""

import shutil
from typing import Any

from gpu_parts.session import NotRun, Session

# FP16 has 11 bits; guidance multiplies the rounding of every branch, and four steps carry it on.
LATENTS, PICTURE_MEAN = 5e-2, 2.0


def run(session: Session) -> None:
    """The small bundle by each library that there is, then the full-size one by the first of them, without parity."""
    session.needs_gpu()
    session.driver()
    from gpu_parts.edits import build, latency, parity
    from pixrt.bundles.store import open_bundle
    from pixrt.errors import PackageMissing, PixrtError
    from pixrt_engines.library import open_library

    libraries = []
    for library in ("tensorrt", "tensorrt-rtx"):
        try:
            open_library(library)  # type: ignore[arg-type]
            libraries.append(library)
        except PackageMissing as error:
            session.tell(**{library: f"not run: {error}"})
    if not libraries:
        raise NotRun("neither tensorrt nor tensorrt-rtx is installed")
    small = session.scratch / "small"
    shutil.copytree(session.small_bundle(), small, copy_function=shutil.copyfile)
    side = open_bundle(small, verify=False).manifest.native_resolution
    beyond, size = [], (side, side)
    for library in libraries:
        try:
            session.tell(**{f"{library}, engines": build(small, library, size)})
            rows = parity(small, library, size)
            session.tell(**{f"{library}, parity": rows})
            session.tell(**{f"{library}, latency": latency(small, library, size, session.steps, 10)})
            beyond += [f"{library}, {row['scheduler']}" for row in rows if not _is_close(row)]
        except PixrtError as error:
            session.tell(**{library: f"failed: {error}"})
            beyond.append(library)
    if session.full is not None and not beyond:
        library = libraries[0]
        full = session.scratch / "full"
        shutil.copytree(session.full, full, copy_function=shutil.copyfile)
        side = open_bundle(full, verify=False).manifest.native_resolution
        session.tell(**{f"full size, {library}, engines": build(full, library, (side, side))})
        session.tell(**{f"full size, {library}, latency": latency(full, library, (side, side), session.steps, 5)})
    assert not beyond, f"beyond {LATENTS} of the latents or {PICTURE_MEAN} of 255: {', '.join(beyond)}"


def _is_close(row: dict[str, Any]) -> bool:
    ways = [row[name] for name in ("fused", "unfused", "without graphs")]
    close = all(way["latents"] < LATENTS and way["picture_mean"] < PICTURE_MEAN for way in ways)
    return close and bool(row["captured run equals the first"])
