"""What the front and the worker say to each other. Plain data: the front has no arrays.

Must not import numpy or Pillow.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pixrt.dispatch.demand import Bucket
from pixrt.options.marking import MarkingOptions
from pixrt.options.serve import LogFormat
from pixrt.options.session import SessionOptions
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Asked, Result

Stage = Literal["encode", "decode"]
Kind = Literal["encode", "step", "decode"]
Loras: TypeAlias = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """To the worker, first: what it works with. `slots` and `most_rows` are the most of a pool and of a call."""

    bundle: str
    session: SessionOptions
    slots: int
    most_rows: int
    lora_folder: str | None
    embedding_folder: str | None
    variants: int
    log_format: LogFormat
    marking: MarkingOptions


@dataclass(frozen=True, slots=True)
class Check:
    """To the worker: look at what a client asks for, and prepare it if memory allows.

    Pictures of one request are told together: what they share is sent, and held, once.
    """

    numbers: tuple[int, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Do:
    """To the worker: the one thing that its device does next.

    `previews` are the pictures of a step whose state a client wants to see.
    """

    kind: Kind
    numbers: tuple[int, ...]
    previews: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """To the worker: forget a picture."""

    number: int


@dataclass(frozen=True, slots=True)
class Read:
    """To the worker: say how a picture was made, as it says itself. The file's bytes."""

    number: int
    picture: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """What the front tells clients of the bundle.

    Attributes:
        tasks: those that it can do, and
        schemas: their options.
        examples: instructions that it knows.
        load_seconds: from the worker's start until it was warm, and
        created: when that was, in Unix seconds; both as the front sees it.
    """

    name: str
    sha256: str
    precision: str
    notice: str
    backend: str
    native_resolution: int
    size_multiple: int
    tasks: tuple[str, ...]
    defaults: Mapping[str, Any]
    schemas: Mapping[str, Any] = field(repr=False)
    loras: tuple[str, ...]
    examples: tuple[str, ...] = ()
    load_seconds: float = 0.0
    created: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: the bundle is open and warm. What calls took: seconds of a step by its rows, and of the rest."""

    model: Model
    bucket: Bucket
    steps: Mapping[int, float]
    stages: Mapping[Stage, float]


@dataclass(frozen=True, slots=True)
class Unusable:
    """From the worker: the bundle cannot be opened, and why; it ends then. `code` is the command's exit code."""

    problem: str
    remedy: str
    code: int


@dataclass(frozen=True, slots=True)
class Checked:
    """From the worker: a picture can be made, and what it asks of the device."""

    number: int
    bucket: Bucket
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """From the worker: what `read_parameters` finds in a picture."""

    number: int
    parameters: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """From the worker: a picture can be encoded from now on."""

    number: int


@dataclass(frozen=True, slots=True)
class Broke:
    """From the worker: a picture cannot be made. `was_done` if the device was at it."""

    number: int
    problem: Problem
    was_done: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """From the worker: the device has done what it was told, in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LostPlaces:
    """From the worker: these pictures must begin again, and their buckets take so many at once from now on."""

    numbers: tuple[int, ...]
    slots: int | None
    demands: Mapping[int, tuple[Bucket, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Preview:
    """From the worker: what a picture looks like after a step, PNG."""

    number: int
    step: int
    picture: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Made:
    """From the worker: a picture is made and encoded."""

    number: int
    result: Result


@dataclass(frozen=True, slots=True)
class Kept:
    """Of one cache: how often something was found in it or not, and its bytes."""

    hits: int
    misses: int
    bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class State:
    """From the worker, now and then: its caches, the device's bytes by what they are for, and its weights."""

    caches: Mapping[str, Kept]
    device_bytes: Mapping[str, int]
    variants: tuple[Hashable, ...]


ToWorker: TypeAlias = Setup | Check | Read | Do | Drop
FromWorker: TypeAlias = (
    Ready | Unusable | Checked | Found | Prepared | Broke | Ran | LostPlaces | Preview | Made | State
)
