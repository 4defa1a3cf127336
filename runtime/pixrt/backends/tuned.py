"""What `pixrt tune` measured on this machine, kept in the user's cache folder: which CPU backend is the fastest,
and what an edit costs by its rows.

A measurement is believed for the processor, threads, library versions and content of the bundle that it was made with.
A kept file that cannot be read is none. Must not import a backend.
"""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pixrt._version import __version__
from pixrt.bundles.store import Bundle
from pixrt.errors import PixrtError
from pixrt.files import atomic_write, make_folder
from pixrt.places import cache_folder
from pixrt.reading import Malformed, read_json

_VERSION = 1
_MOST_RECORDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How long a step of `pictures` together takes, of `rows` rows: milliseconds, the median and the extremes."""

    pictures: int
    rows: int
    p50_ms: float
    least_ms: float
    most_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EditCost:
    """What an edit is made of, in milliseconds.

    Attributes:
        beside_ms: all but its steps: the texts, the VAE, the file.
        whole_ms: a step of one row of the whole network, of two, and so on.
        shallow_ms: the same of the shallow network; empty where the bundle has none, or the backend does not run it.
    """

    beside_ms: float
    whole_ms: tuple[float, ...]
    shallow_ms: tuple[float, ...] = ()

    def whole(self, rows: int) -> float:
        """A step of so many rows, or a part of one, of the whole network."""
        return _of_rows(self.whole_ms, rows)

    def shallow(self, rows: int) -> float:
        """The same of the shallow network; where it was not measured, as if it were the whole one."""
        return _of_rows(self.shallow_ms or self.whole_ms, rows)

    def scaled(self, area: float) -> "EditCost":
        """Of pictures with so many times the pixels."""
        scaled = (tuple(area * ms for ms in each) for each in (self.whole_ms, self.shallow_ms))
        return EditCost(beside_ms=area * self.beside_ms, **dict(zip(("whole_ms", "shallow_ms"), scaled, strict=True)))


def _of_rows(measured: tuple[float, ...], rows: int) -> float:
    """Measured, or beyond that as many times the last row's share."""
    if rows <= len(measured):
        return measured[rows - 1] if rows else 0.0
    return measured[-1] * rows / len(measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One backend in one precision.

    Attributes:
        edit_ms: the bundle's default edit: what is beside its steps, and as many steps as it has by default.
        least_ms, most_ms: the same by the fastest and by the slowest of the measured edits.
        levels: how far a picture was from that of the first backend at most, in levels of 255.
        is_exact: whether "auto" may take it: in FP32, and within one level.
        curve: a step by the number of pictures.
        cost: of one edit, by its rows; None in what an earlier version measured.
    """

    backend: str
    precision: str
    edit_ms: float
    least_ms: float
    most_ms: float
    levels: int
    is_exact: bool
    curve: tuple[Curve, ...]
    cost: EditCost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a measurement depends on. `folder` tells a bundle that was replaced from one that was never measured."""

    machine: str
    threads: int | None
    libraries: Mapping[str, str]
    bundle_sha256: str
    folder: str

    @classmethod
    def of(cls, bundle: Bundle, threads: int | None, packages: Iterable[str]) -> "Circumstances":
        """Those of this process; `packages` are the distributions whose versions count."""
        files = sorted((name, spec.sha256) for name, spec in bundle.manifest.files.items())
        return cls(
            machine=machine(),
            threads=threads,
            libraries={"pixrt": __version__, **{name: _version(name) for name in packages}},
            bundle_sha256=hashlib.sha256(json.dumps(files).encode()).hexdigest(),
            folder=str(bundle.folder.resolve()),
        )

    def is_about(self, other: "Circumstances") -> bool:
        """Whether both are of one machine, as many threads, and one bundle or what took its place."""
        same = self.bundle_sha256 == other.bundle_sha256 or self.folder == other.folder
        return same and (self.machine, self.threads) == (other.machine, other.threads)

    def changes(self, now: "Circumstances") -> list[str]:
        """What is no longer as it was, in words."""
        versions = [
            f"{name} is {_shown(now.libraries.get(name))}, was {_shown(version)}"
            for name, version in self.libraries.items()
            if now.libraries.get(name) != version
        ]
        return ["the bundle has changed"] * (self.bundle_sha256 != now.bundle_sha256) + versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was measured, with pictures of `size` x `size` pixels; `made` is the day."""

    circumstances: Circumstances
    size: int
    made: str
    measured: tuple[Measured, ...]

    @property
    def order(self) -> tuple[str, ...]:
        """The backends that "auto" may take, the fastest first."""
        return tuple(each.backend for each in sorted(self.measured, key=lambda each: each.edit_ms) if each.is_exact)

    @property
    def reason(self) -> str:
        """Why the first of them is taken, in words."""
        exact = sorted((each for each in self.measured if each.is_exact), key=lambda each: each.edit_ms)
        told = ", ".join(f"{each.backend} {each.edit_ms:.0f} ms" for each in exact)
        return f"`pixrt tune` measured an edit at {self.size} px on {self.made}: {told}"


@dataclass(frozen=True, slots=True)
class Advice:
    """A measurement that holds here, or else a note on one that does not any more, or neither."""

    tuning: Tuning | None = None
    note: str | None = None


def advice(now: Circumstances, native_size: int) -> Advice:
    """What was measured in these circumstances: at the bundle's own size, else at the size that was measured last."""
    about = [each for each in _read() if each.circumstances.is_about(now)]
    fresh = [each for each in about if not each.circumstances.changes(now) and each.order]
    if fresh:
        return Advice(max(fresh, key=lambda each: each.size == native_size))  # the first of those, the latest
    if about:
        changes = "; ".join(about[0].circumstances.changes(now)) or "no backend was exact"
        return Advice(note=f"what `pixrt tune` measured for this bundle is not used ({changes}): run it again")
    return Advice()


def costs(now: Circumstances, backend: str, precision: str) -> dict[int, EditCost]:
    """What edits cost on a backend in these circumstances, by the side of the pictures that were measured."""
    return {
        tuning.size: each.cost
        for tuning in reversed(_read())  # so that the latest counts
        if tuning.circumstances.is_about(now) and not tuning.circumstances.changes(now)
        for each in tuning.measured
        if (each.backend, each.precision) == (backend, precision) and each.cost is not None
    }


def keep(tuning: Tuning) -> None:
    """Keep a measurement in place of earlier ones of the same. Raises OutputError."""
    others = [
        each for each in _read() if each.size != tuning.size or not each.circumstances.is_about(tuning.circumstances)
    ]
    path = place()
    make_folder(path.parent)
    records = [dataclasses.asdict(each) for each in [tuning, *others][:_MOST_RECORDS]]
    with atomic_write(path) as file:
        file.write(json.dumps({"version": _VERSION, "measured": records}, indent=1).encode())


def place() -> Path:
    """The file that measurements are kept in."""
    return cache_folder() / "tuned.json"


def machine() -> str:
    """The processor, what it can do, and how many of its cores this process may use."""
    name, flags = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = " ".join(sorted(value.split()))
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, features {hashlib.sha256(flags.encode()).hexdigest()[:16]}"


def _read() -> list[Tuning]:
    """All that is kept, the latest first."""
    with suppress(PixrtError, Malformed):
        told = read_json(place())
        if isinstance(told, dict) and told.get("version") == _VERSION and isinstance(told.get("measured"), list):
            return [tuning for record in told["measured"] if (tuning := _parsed(record)) is not None]
    return []


def _parsed(record: Any) -> Tuning | None:
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        measured = tuple(
            Measured(**{**each, "curve": tuple(Curve(**point) for point in each["curve"]), "cost": _cost(each)})
            for each in record["measured"]
        )
        if all(isinstance(each.backend, str) and each.edit_ms > 0 for each in measured):
            circumstances = Circumstances(**record["circumstances"])
            return Tuning(**{**record, "circumstances": circumstances, "measured": measured})
    return None


def _cost(record: Any) -> EditCost | None:
    """Raises KeyError, TypeError, ValueError."""
    said = record.get("cost")
    if said is None:
        return None
    whole, shallow = (tuple(map(float, said[name])) for name in ("whole_ms", "shallow_ms"))
    if not (whole and all(ms > 0 for ms in (*whole, *shallow)) and said["beside_ms"] >= 0):
        raise ValueError(said)
    return EditCost(beside_ms=float(said["beside_ms"]), whole_ms=whole, shallow_ms=shallow)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _shown(version: str | None) -> str:
    return version or "not installed"
