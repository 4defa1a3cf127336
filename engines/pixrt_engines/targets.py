"""For which GPUs an engine is built: the chosen compute capabilities, or the GPU that TensorRT ties it to."""

from dataclasses import dataclass

from pixrt.bundles.engine_files import AMPERE
from pixrt.errors import EngineError, OptionError
from pixrt_engines.gpu import Gpu, present_gpu
from pixrt_engines.library import Library


@dataclass(frozen=True, slots=True)
class Targets:
    """Compute capabilities such as "sm89"; `gpu` names the one an engine is tied to, "" if it is portable."""

    capabilities: tuple[str, ...]
    gpu: str = ""


def resolve_targets(library: Library, wanted: tuple[str, ...]) -> Targets:
    """What was asked for, with "native" replaced by the GPU at hand and nothing by the library's default.

    Raises OptionError for a target the library does not have, EngineError if a GPU is needed and there is none.
    """
    if not library.is_rtx:
        gpu = _require_gpu(f"{library.name} tunes an engine on the GPU it is for")
        other = [target for target in wanted if target not in ("native", gpu.capability)]
        if other:
            raise OptionError(
                f"target is {other[0]}, and {library.name} builds only for the GPU at hand ({gpu.name},"
                f" {gpu.capability})",
                remedy="Build on such a GPU, or use --library tensorrt-rtx, which builds for chosen capabilities",
            )
        return Targets((gpu.capability,), gpu.name)
    if not wanted:
        return Targets(tuple(name for name in library.targets if int(name.removeprefix("sm")) >= AMPERE))
    found = []
    for target in wanted:
        name = _require_gpu("the target native is the GPU at hand").capability if target == "native" else target
        if name not in library.targets:
            raise OptionError(
                f"target is {name}, which {library.name} {library.version} does not know",
                remedy=f"It builds for {', '.join(library.targets)}",
            )
        found.append(name)
    return Targets(tuple(sorted(set(found), key=lambda name: int(name.removeprefix("sm")))))


def _require_gpu(purpose: str) -> Gpu:
    gpu = present_gpu()
    if gpu is None:
        raise EngineError(
            f"{purpose}, and this machine has no GPU, or no driver for it",
            remedy="Name targets instead, such as --target sm86,sm89, with --library tensorrt-rtx",
        )
    return gpu
