"""What a backend tells of itself before anything of it is imported.

Each room has a module `info` that makes its `BackendInfo`; `registry` lists them. Must not import a backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pixrt.backends.protocol import Backend
from pixrt.bundles.engine_spec import EngineLibrary
from pixrt.bundles.store import Bundle
from pixrt.options.session import SessionOptions

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
        is_on_cpu: whether it competes for the CPU: among these "auto" goes by what `pixrt tune` measured.
        remedy: what to do where it is not available; None is to install the extra.
    """

    name: str
    summary: str
    open: Callable[["BackendInfo", Bundle, SessionOptions], Backend]
    extra: str = ""
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    needs: str = ""
    options: frozenset[str] = frozenset()
    library: EngineLibrary | None = None
    is_automatic: bool = True
    is_on_cpu: bool = False
    remedy: str | None = None

    @property
    def install(self) -> str:
        """What to do where it is not available."""
        if self.remedy is not None:
            return self.remedy
        return f"Install it: `pip install 'pixrt[{self.extra}]'`" + (f"; it needs {self.needs}" if self.needs else "")


def given_options(options: SessionOptions) -> dict[str, str]:
    """The options of `PARTICULAR` that are set, with the words for each."""
    usual = SessionOptions()
    given = {name: getattr(options, name) for name in PARTICULAR}
    return {name: PARTICULAR[name] for name, value in given.items() if value and value != getattr(usual, name)}
