"""Every error pixrt raises on purpose, one tree.

    PixrtError                   exit  1
    ├── OptionError              exit  2   a parameter is out of range, or does not fit this bundle
    │   ├── LoraError            exit  2   a LoRA file cannot be used, or does not fit this bundle
    │   └── EmbeddingError       exit  2   an embedding cannot be used, or does not fit this bundle
    ├── PictureError             exit  3   a picture cannot be used
    │   ├── ParametersMissing    exit  3   it does not say how it was made
    │   ├── PictureUnreadable    exit  3   it is no picture, or of a format that is not read
    │   └── PictureTooLarge      exit  3   it has more pixels than the caps allow
    ├── BundleError              exit  4   a bundle is missing, incomplete, or not a bundle
    │   ├── BundleAltered        exit  4   a file differs from its manifest in size or SHA-256
    │   └── BundleTooNew         exit  4   the manifest's schema is newer than this pixrt
    ├── CheckpointError          exit  5   a checkpoint cannot be exported
    │   └── ExportMismatch       exit  5   an exported network differs from PyTorch beyond the tolerance
    ├── BackendError             exit  6   a backend or provider cannot be opened, or failed in a run
    │   ├── OutOfMemory          exit  6   the device or the machine has no memory for it
    │   ├── DeviceLost           exit  6   the device does not answer any more
    │   └── EngineError          exit  6   a TensorRT engine cannot be built, or must not be loaded
    ├── OutputError              exit  7   a result cannot be written
    ├── TrainingError            exit  8   training cannot go on
    ├── DataError                exit  9   training data cannot be used
    ├── PackageMissing           exit 10   a command needs packages that are not installed
    ├── SomeFailed               exit  1   some of several pictures failed; ends with the code of the first of them
    └── Cancelled                exit 130  stopped by the caller (on_step) or by Ctrl-C

A message says what is wrong with the numbers, then what to do: both are arguments, so neither is forgotten. Must not
import anything of pixrt.
"""

from collections.abc import Sequence
from typing import Any

_MOST_SHOWN = 2000  # characters of a problem or a remedy: names in it may be a stranger's


class PixrtError(Exception):
    """The root. `problem` says what is wrong, with the numbers; `remedy` says what to do.

    `option` is the name of the parameter that is at fault ("text", "image", "mask" and "style" among them), "" if there
    is none, or several.
    """

    exit_code = 1

    def __init__(self, problem: str, *, remedy: str, option: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        self.option = option

    def __str__(self) -> str:
        """One line: the problem, then the remedy; what does not print is escaped, and what is too long is cut."""
        return f"{_one_line(self.problem)}. {_one_line(self.remedy)}."

    def __reduce__(self) -> tuple[Any, ...]:
        """As `pickle` and `copy` take it apart: they would call the class without the remedy's name."""
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[PixrtError], args: tuple[Any, ...]) -> PixrtError:
    return kind.__new__(kind, *args)


def _one_line(text: str) -> str:
    line = " ".join(str(text)[: 2 * _MOST_SHOWN].split())
    if not line.isprintable():  # such as what moves a terminal's cursor
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN - 3]}..."


class OptionError(PixrtError):
    """A parameter is out of range, or does not fit the bundle or another parameter."""

    exit_code = 2


class LoraError(OptionError):
    """A LoRA file is missing, of another kind, or made for other layers than the bundle has."""


class EmbeddingError(OptionError):
    """A textual-inversion embedding is missing, of another kind, or as wide as another text encoder."""


class PictureError(PixrtError):
    """A picture cannot be used: it is missing, broken, too thin, or does not fit what it comes with."""

    exit_code = 3


class ParametersMissing(PictureError):
    """A picture does not say how it was made: neither pixrt nor AUTOMATIC1111 wrote it, or it was changed since."""


class PictureUnreadable(PictureError):
    """A file is no picture, or of a format that pixrt does not read."""


class PictureTooLarge(PictureError):
    """A picture, or the working picture made of it, has more pixels than the caps allow."""


class BundleError(PixrtError):
    """A bundle is missing, incomplete, or its manifest does not say what it must."""

    exit_code = 4


class BundleAltered(BundleError):
    """A file of the bundle differs from its manifest in size or SHA-256."""


class BundleTooNew(BundleError):
    """The manifest's schema is newer than this version of pixrt reads."""


class CheckpointError(PixrtError):
    """A checkpoint cannot be exported: missing, a pickle, or an architecture that is not supported."""

    exit_code = 5


class ExportMismatch(CheckpointError):
    """An exported network differs from PyTorch by more than the stated tolerance."""


class BackendError(PixrtError):
    """A backend or execution provider cannot be opened, or failed in a run."""

    exit_code = 6


class OutOfMemory(BackendError):
    """The device, or the machine, has no memory for what was asked of it."""


class DeviceLost(BackendError):
    """The device does not answer any more; only a new process can use it."""


class EngineError(BackendError):
    """A TensorRT engine cannot be built, or its plan file must not be loaded: altered, or made for something else."""


class OutputError(PixrtError):
    """A result cannot be written: it would overwrite an input, or the file system refused."""

    exit_code = 7


class PackageMissing(PixrtError):
    """A command needs packages beyond the runtime's that are not installed."""

    exit_code = 10


class Cancelled(PixrtError):
    """The edit was stopped before its last step, by `on_step` or by Ctrl-C."""

    exit_code = 130


class SomeFailed(PixrtError):
    """Some of several pictures failed, and were told of; the others are made. The exit code is that of the first."""

    @classmethod
    def of(cls, failures: Sequence[PixrtError]) -> "SomeFailed":
        """The error of a call in which these pictures failed."""
        error = cls(
            f"{len(failures)} of the pictures failed", remedy="What each needs is said above; the others are made"
        )
        error.exit_code = failures[0].exit_code
        return error


class TrainingError(PixrtError):
    """Training cannot go on: a loss that is not finite, no memory, a run folder of another run."""

    exit_code = 8


class DataError(PixrtError):
    """A training set is missing, empty, or of no layout that is known."""

    exit_code = 9
