"""How a network of a bundle came to INT8, as manifests say it. Must not import numpy or anything of pixrt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuantisationSpec:
    """One network's. Errors are the RMS error of its output against FP32, relative to the RMS of the output.

    They were measured on edits that it was not calibrated on.

    Attributes:
        component: the network.
        calibrated_on: the samples of a world, or a folder's name.
        edits, rows: how many edits it was calibrated on, and rows of its inputs out of them.
        measured_rows: how many rows of other edits errors were measured on.
        seed: of the samples and of the noise.
        error_of_all: with every layer quantised.
        error: with `kept` in FP32.
        kept: the layers kept in FP32, each with the error that it made when it alone was quantised.
        kept_macs: their share of the network's work, and
        other_macs: that of the layers that the quantiser itself leaves alone.
    """

    component: str
    calibrated_on: str
    edits: int
    rows: int
    measured_rows: int
    seed: int
    error_of_all: float
    error: float
    kept: dict[str, float]
    kept_macs: float
    other_macs: float
