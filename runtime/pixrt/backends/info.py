"""What a backend tells of itself before anything of it is imported, and the options that backends run with.

Each room has a module `info` that makes its `BackendInfo`; `registry` lists them. Must not import a backend.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pixrt.backends.protocol import Backend
from pixrt.bundles.engine_spec import EngineLibrary
from pixrt.bundles.store import Bundle
from pixrt.errors import OptionError

CpuPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """How a backend runs. Validated on construction: OptionError.

    Attributes:
        threads: of CPU kernels; None is one per core.
        cpu_precision: what CPU kernels of OpenVINO compute in; BF16 is faster on processors that have it.
        provider_options: for ONNX Runtime's execution provider: see `backends.ort.providers`.
        cuda_graphs: TensorRT's own backends: capture what a step enqueues, and launch it as one.
        weight_budget_mib: the same: how much of an engine's weights may be on the device.
    """

    threads: int | None = None
    cpu_precision: CpuPrecision = "fp32"
    provider_options: Mapping[str, str] = field(default_factory=dict)
    cuda_graphs: bool = True
    weight_budget_mib: int | None = None

    def __post_init__(self) -> None:
        limit = 4 * (os.cpu_count() or 1)
        if not _is_whole(self.threads, limit):
            raise OptionError(
                f"threads is {self.threads!r}", remedy=f"It must be from 1 to {limit}, four times the cores here"
            )
        if self.cpu_precision not in get_args(CpuPrecision):
            raise OptionError(
                f"cpu_precision is {self.cpu_precision!r}", remedy=f"Choose one of {', '.join(get_args(CpuPrecision))}"
            )
        if not _is_whole(self.weight_budget_mib, 1 << 20):
            raise OptionError(
                f"weight_budget_mib is {self.weight_budget_mib!r}", remedy="It must be a whole number from 1 to 1048576"
            )
        given = self.provider_options
        if not isinstance(given, Mapping) or not all(isinstance(text, str) for pair in given.items() for text in pair):
            raise OptionError(f"provider_options is {given!r}", remedy="Give texts by their names: {'device_id': '0'}")


def _is_whole(value: object, most: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most)


# Options that mean nothing to most backends, in words: set to anything but their defaults, they are refused where a
# backend lacks them.
PARTICULAR: Mapping[str, str] = {
    "provider_options": "provider options are",
    "weight_budget_mib": "a weight budget is",
    "cpu_precision": "a CPU precision is",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """One backend, as everything that lists, checks or recommends backends knows it.

    Attributes:
        name: what the user chooses it by.
        summary: what it runs networks with, in a few words.
        open: opens it, as this entry, for a bundle. Raises BackendError where the bundle cannot be run here,
            OptionError; ImportError or OSError where a library is broken.
        extra: of pixrt, that installs what it needs; none where pixrt needs nothing.
        packages: the distributions whose versions tell what is installed.
        modules: what must be importable; the first that is not is named.
        needs: what it needs beside the extra, such as "an NVIDIA GPU".
        options: those of `PARTICULAR` that it has.
        library: whose engines of a bundle it runs; None where it runs the bundle's ONNX files.
        is_automatic: whether "auto" may take it.
        remedy: what to do where it is not available; None is to install the extra.
    """

    name: str
    summary: str
    open: Callable[["BackendInfo", Bundle, BackendOptions], Backend]
    extra: str = ""
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    needs: str = ""
    options: frozenset[str] = frozenset()
    library: EngineLibrary | None = None
    is_automatic: bool = True
    remedy: str | None = None

    @property
    def install(self) -> str:
        """What to do where it is not available."""
        if self.remedy is not None:
            return self.remedy
        return f"Install it: `pip install 'pixrt[{self.extra}]'`" + (f"; it needs {self.needs}" if self.needs else "")


def given_options(options: BackendOptions) -> dict[str, str]:
    """The options of `PARTICULAR` that are set, with the words for each."""
    usual = BackendOptions()
    given = {name: getattr(options, name) for name in PARTICULAR}
    return {name: PARTICULAR[name] for name, value in given.items() if value and value != getattr(usual, name)}
