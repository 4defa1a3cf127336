"""Devices of a fleet: those of `pixrt serve --simulate`, a bound, a processor, and what `pixrt tune` measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixrt.dispatch.costs import SHARES
from pixrt.errors import OptionError
from pixrt.serve.devices import DEVICES, Device, device_of, stated
from pixrt.serve.settings import Settings

# Stable Diffusion 1.5 at 512 x 512: billions of multiplications and additions of a row, and of the VAE, counted.
_ROW_GMAC, _ENCODE_GMAC, _DECODE_GMAC = 401.7, 558.0, 1257.0
_H100_TFLOPS = 989.4  # dense FP16, the data sheet's; published systems reach 15 to 17 % of it
_CPU_ROW_MS = 6510 / 3  # two cores of AVX-512, OpenVINO in BF16: a step of 3 rows, the only one that was measured


def _bound(tflops: float) -> Device:
    """A device that computes at its peak, and does nothing else: none is faster."""
    ms = {name: 2 * gmac / tflops for name, gmac in (("row", _ROW_GMAC), ("in", _ENCODE_GMAC), ("out", _DECODE_GMAC))}
    return Device(512, {rows: rows * ms["row"] for rows in range(1, 25)}, ms["in"], ms["out"])


FLEETS: Mapping[str, Device] = {
    "a100": DEVICES["a100"],
    "4090": DEVICES["4090"],
    "h100-bound": _bound(_H100_TFLOPS),
    "cpu": stated(0.0, _CPU_ROW_MS),
}


def named(curve: str) -> Device:
    """A device by its name here, as `pixrt serve --curve` takes it, or out of what `pixrt tune --json` wrote.

    Raises OptionError.
    """
    if curve in FLEETS:
        return FLEETS[curve]
    if curve.endswith(".json"):
        try:
            told = json.loads(Path(curve).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(f"{curve}: cannot be read: {error}", remedy="Give what a --json wrote") from error
        if isinstance(told, dict) and "measured" in told:
            return _tuned(told, curve)
    return device_of(Settings(), curve)


def _tuned(told: Mapping[str, Any], path: str) -> Device:
    """The backend that `auto` takes by what `pixrt tune` measured. The VAE is guessed by its work."""
    try:
        fastest = next(each for each in told["measured"] if each["is_exact"] and each["backend"] == told["auto"][0])
        steps = {int(each["rows"]): float(each["p50_ms"]) for each in fastest["curve"]}
        row = steps[max(steps)] / max(steps)
        return Device(int(told["size"]), steps, SHARES["encode"] * row, SHARES["decode"] * row)
    except (LookupError, StopIteration, TypeError, ValueError) as error:
        raise OptionError(f"{path}: there is no curve in it", remedy="Give what `pixrt tune --json` wrote") from error
