"""Devices as `pixrt serve --simulate` knows them: what a step and the VAE take, stated or measured."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixrt.dispatch.costs import SHARES, Costs, Curve, Stage
from pixrt.dispatch.demand import Bucket
from pixrt.errors import OptionError
from pixrt.reading import read_json
from pixrt.serve.settings import Settings


@dataclass(frozen=True, slots=True)
class Device:
    """Milliseconds of a step by its rows, and of both halves of the VAE, for pictures of `side` squared.

    `fixed_ms` of a step are the same for every size; the rest goes with the area.
    """

    side: int
    steps_ms: Mapping[int, float]
    encode_ms: float
    decode_ms: float
    fixed_ms: float = 0.0

    def costs(self, buckets: Iterable[Bucket]) -> Costs:
        """As the dispatcher wants them."""
        costs = Costs()
        for bucket in buckets:
            curve = Curve({rows: (milliseconds - self.fixed_ms) / 1000 for rows, milliseconds in self.steps_ms.items()})
            known = {*self.steps_ms, *range(1, bucket.most_rows + 1)}
            steps = {rows: self.fixed_ms / 1000 + bucket.area * curve(rows) for rows in known}
            stages: dict[Stage, float] = {"encode": self.encode_ms, "decode": self.decode_ms}
            costs.measured(bucket, steps, {stage: bucket.area * ms / 1000 for stage, ms in stages.items()})
        return costs


def stated(fixed_ms: float, row_ms: float, least_rows: int = 1) -> Device:
    """A device out of two numbers, for 512 x 512; the VAE takes what it takes of Stable Diffusion 1.5."""
    row = (fixed_ms + 3 * row_ms) / 3
    steps = {rows: fixed_ms + row_ms * max(rows, least_rows) for rows in range(1, 25)}
    return Device(512, steps, SHARES["encode"] * row, SHARES["decode"] * row, fixed_ms)


# Stable Diffusion 1.x, 512 x 512: AITemplate's published table (A100-40GB), AUTOMATIC1111's issue 2449 (4090, eager
# PyTorch), and a device on which rows cost in proportion from three on.
DEVICES: Mapping[str, Device] = {
    "a100": stated(7.5, 9.1),
    "4090": stated(31.4, 9.3),
    "proportional": stated(0.0, 11.6, least_rows=3),
}


def device_of(settings: Settings, curve: str | None) -> Device:
    """A device by its name, as FIXED+PER_ROW milliseconds, out of an earlier report, or this one, measured.

    Raises OptionError.
    """
    if curve is None:
        return _measured(settings)
    if curve in DEVICES:
        return DEVICES[curve]
    if curve.endswith(".json"):
        return _read(Path(curve))
    numbers = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*\+\s*(\d+(?:\.\d*)?)\s*r?\s*", curve)
    if numbers is None or float(numbers[2]) == 0:
        raise OptionError(
            f"the curve {curve!r:.60} is not known",
            remedy=f"Say {', '.join(DEVICES)}, milliseconds such as 7.5+9.1 (of a step, and of each of its rows, at"
            " 512 x 512), or a .json that --json wrote",
            option="curve",
        )
    return stated(float(numbers[1]), float(numbers[2]))


def _read(path: Path) -> Device:
    """A curve out of an earlier report."""
    try:
        told = read_json(path, refuse=ValueError)["curve"]
        steps = {int(rows): float(milliseconds) for rows, milliseconds in told.pop("steps_ms").items()}
        device = Device(steps_ms=steps, **{name: type_(told[name]) for name, type_ in _FIELDS.items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise OptionError(f"{path}: there is no curve in it", remedy="Give a .json that --json wrote") from error
    if not (steps and min(steps) > 0 and min(steps.values()) > device.fixed_ms >= 0 and device.side > 0):
        raise OptionError(f"{path}: the curve has times that cannot be", remedy="Give a .json that --json wrote")
    return device


_FIELDS: Mapping[str, Callable[[Any], Any]] = {"side": int, "encode_ms": float, "decode_ms": float, "fixed_ms": float}


def _measured(settings: Settings) -> Device:
    """What the server would measure at its start."""
    from pixrt.editor.editor import Editor
    from pixrt.serve.warming import warm_up

    slots, most_rows = settings.session.max_batch, settings.options.max_rows
    with Editor(settings.bundle, settings.session) as editor:
        _, steps, stages = warm_up(editor, editor.device(slots=slots, most_rows=most_rows))
        side = editor.manifest.native_resolution
    steps_ms = {rows: 1000 * seconds for rows, seconds in sorted(steps.items())}
    return Device(side, steps_ms, 1000 * stages["encode"], 1000 * stages["decode"])
