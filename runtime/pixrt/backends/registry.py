"""Every backend in one list: which can run a bundle here, why others cannot, and opening one.

Imports none until asked: each room's `info` tells what there is.
"""

import importlib.machinery
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from pixrt.backends import null, tuned
from pixrt.backends.info import BackendInfo, given_options
from pixrt.backends.openvino import info as openvino
from pixrt.backends.ort import info as ort
from pixrt.backends.protocol import Backend, HasPlans
from pixrt.backends.tensorrt import info as tensorrt
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, OptionError, PixrtError
from pixrt.options.session import SessionOptions

AUTO = "auto"
# Fastest first, and parity before speed: "auto" takes the first that opens, so OpenVINO only without ONNX Runtime, or
# where it was measured to be faster and as exact (see `tuned`).
BACKENDS: tuple[BackendInfo, ...] = (*tensorrt.INFOS, *ort.INFOS, openvino.INFO, null.INFO)
LADDER = tuple(info for info in BACKENDS if info.is_automatic)
ON_CPU = tuple(info for info in LADDER if info.is_on_cpu)
# The backends that run engines built beforehand, by name.
WITH_ENGINES = {info.name: info.library for info in BACKENDS if info.library is not None}


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether a backend can be opened here; `reason` says why not, or with what it runs."""

    name: str
    available: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An open backend, and the faster ones that "auto" passed over for it, with their reasons.

    `reason` says why "auto" took it where that was measured; `note` is of a measurement that does not hold any more.
    """

    backend: Backend
    passed_over: tuple[BackendStatus, ...]
    reason: str | None = None
    note: str | None = None


def backend_names() -> list[str]:
    """What a backend can be chosen by, "auto" first."""
    return [AUTO, *(info.name for info in BACKENDS)]


def backend_choices() -> list[tuple[str, str]]:
    """The same, each with what it is, as a shell shows it where a name is completed."""
    return [(AUTO, "the first that opens, or what was measured"), *((info.name, info.summary) for info in BACKENDS)]


def backend_statuses(bundle: Bundle) -> Iterator[BackendStatus]:
    """Every backend for a bundle, in the order that "auto" tries them; those that it never takes are last."""
    for info in BACKENDS:
        try:
            backend = _open(info, bundle, SessionOptions())
        except PixrtError as error:
            yield BackendStatus(info.name, False, error.problem)
        else:
            yield BackendStatus(info.name, True, backend.describe())
            backend.close()


def open_backend(name: str, bundle: Bundle, options: SessionOptions | None = None) -> Opened:
    """Open a backend that can run the bundle; "auto" takes the first of its ladder that opens, all its plans there.

    Raises OptionError for an unknown name or options that it does not have, BackendError where the backend (for "auto":
    every one) cannot run the bundle here.
    """
    options = options or SessionOptions()
    check_options(name, options)
    if name != AUTO:
        return Opened(_open(_named(name), bundle, options), ())
    measured = advice_for(bundle, options.threads)
    passed_over: list[BackendStatus] = []
    for info in ladder(measured):
        try:
            backend = _open(info, bundle, options)
            _check_plans(backend, bundle)
        except BackendError as error:
            passed_over.append(BackendStatus(info.name, False, error.problem))
        else:
            reason = measured.tuning.reason if measured.tuning is not None and info.is_on_cpu else None
            return Opened(backend, tuple(passed_over), reason, measured.note)
    raise BackendError("; ".join(f"{status.name}: {status.reason}" for status in passed_over), remedy=_install_one())


def circumstances_of(bundle: Bundle, threads: int | None) -> tuned.Circumstances:
    """What a measurement of the CPU's backends depends on."""
    return tuned.Circumstances.of(bundle, threads, [package for info in ON_CPU for package in info.packages])


def advice_for(bundle: Bundle, threads: int | None = None) -> tuned.Advice:
    """What was measured for a bundle here, with so many threads."""
    if not tuned.place().exists():
        return tuned.Advice()
    return tuned.advice(circumstances_of(bundle, threads), bundle.manifest.native_resolution)


def costs_for(bundle: Bundle, threads: int | None, backend: str, precision: str) -> dict[int, tuned.EditCost]:
    """What edits of a bundle cost here, by the side of the pictures that were measured; empty where none were."""
    if not tuned.place().exists():
        return {}
    return tuned.costs(circumstances_of(bundle, threads), backend, precision)


def ladder(measured: tuned.Advice) -> tuple[BackendInfo, ...]:
    """What "auto" tries, in order: those of the CPU as they were measured, else as they stand in the list."""
    order = measured.tuning.order if measured.tuning is not None else ()
    ranks = {name: rank for rank, name in enumerate(order)}
    on_cpu = iter(sorted(ON_CPU, key=lambda info: ranks.get(info.name, len(ranks))))
    return tuple(next(on_cpu) if info.is_on_cpu else info for info in LADDER)


def check_options(name: str, options: SessionOptions) -> None:
    """Raise OptionError for a backend that there is not, or one without options that are given."""
    if name not in backend_names():
        raise OptionError(f"backend is {name!r}", remedy=f"Choose one of {', '.join(backend_names())}")
    for option, text in given_options(options).items():
        having = [info.name for info in BACKENDS if option in info.options]
        if name not in having:
            raise OptionError(
                f"{text} given for the backend {name}", remedy=f"Choose {' or '.join(having)}, or leave it out"
            )


def _named(name: str) -> BackendInfo:
    return next(info for info in BACKENDS if info.name == name)


def _open(info: BackendInfo, bundle: Bundle, options: SessionOptions) -> Backend:
    """Open one backend. Raises BackendError."""
    for module in info.modules:
        if not _is_installed(module):
            raise BackendError(f"{info.name} is not available: {module} is not installed", remedy=info.install)
    try:
        return info.open(info, bundle, options)
    except (ImportError, OSError) as error:  # OSError: a shared library is missing or broken
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackendError(f"{info.name} cannot be imported: {reason}", remedy=info.install) from error


def _is_installed(module: str) -> bool:
    """Whether there is such a module; nothing is imported, not its parents either."""
    name, *inner = module.split(".")
    spec = importlib.util.find_spec(name)
    for each in inner:
        if spec is None:
            return False
        name = f"{name}.{each}"
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec is not None


def _check_plans(backend: Backend, bundle: Bundle) -> None:
    if not isinstance(backend, HasPlans):
        return
    try:
        backend.check_plans(bundle)
    except BackendError:
        backend.close()
        raise


def _install_one() -> str:
    """The extras of the ladder: those that need nothing else first."""
    extras = {info.extra: info.needs for info in reversed(LADDER) if info.remedy is None}
    plain = " or ".join(f"`pip install 'pixrt[{extra}]'`" for extra, needs in extras.items() if not needs)
    return f"Install one: {plain}; for GPUs there are the extras {', '.join(e for e, needs in extras.items() if needs)}"
